"""Networks that make speech from text: text front ends, sequences of tokens, and what generates codes.

`transformers` is imported when a language model or a tokenizer is first needed.
"""
