"""The network that goes on from text with codes: what it learns, and what packing and a cache must not change."""

import pytest
import torch

from esdcodec.model_tts.autoregressive import (
    AutoregressiveModel,
    from_text_model,
    make_language_model,
    start_from_codebook,
)
from esdcodec.model_tts.decoding import DecodingSettings
from esdcodec.model_tts.generate import generate
from esdcodec.model_tts.packing import IGNORED, PADDING, pack
from esdcodec.model_tts.sequence import SpeechVocabulary, SpokenText, length_of, length_of_voice
from tests.model_tts.tiny import CODEBOOK, SIZES, VOCABULARY, corpus, examples, fitted, language_model, spoken

END, FILL = VOCABULARY.special_id("end"), VOCABULARY.special_id("padding")
GREEDY = DecodingSettings(temperature=0, max_length=2)


@pytest.fixture(scope="module")
def learnt():
    return fitted(examples())


def continued(model, items, **options):
    given = [VOCABULARY.given(text, voice) for text, voice, _ in items]
    return generate(model, VOCABULARY, given, [len(codes) for *_, codes in items], GREEDY, **options)


ITEMS = [(each.text, corpus()[i - 1] if i % 2 else None, each.codes) for i, each in enumerate(corpus())]


class TestSequence:
    def test_it_is_the_speaker_prompt_then_text_codes_and_end(self):
        voice, said = spoken("v", 1, n_codes=2), spoken("hi", 2, n_codes=3)
        text, codes, end, _ = VOCABULARY.special_ids.values()
        first = VOCABULARY.first_code
        expected = [
            text, *b"v", codes, *(voice.codes + first).tolist(),
            text, *b"hi", codes, *(said.codes + first).tolist(), end,
        ]  # fmt: skip
        example = VOCABULARY.example(said, voice)
        assert example.tokens.tolist() == expected
        assert expected[: example.n_given] == VOCABULARY.given(said.text, voice).tolist()
        assert len(example) == length_of(2, 3) + length_of_voice(1, 2)
        assert len(VOCABULARY.example(said)) == length_of(2, 3)

    def test_text_of_another_front_end_and_codes_of_another_codebook_are_refused(self):
        with pytest.raises(ValueError, match="text tokens must be 0 to 255"):
            VOCABULARY.given([256])
        with pytest.raises(ValueError, match="outside of its codebook"):
            VOCABULARY.example(SpokenText([0], torch.tensor([CODEBOOK])))


class TestPacking:
    def test_nothing_is_lost_and_only_codes_and_ends_are_learnt(self):
        sequences = examples()
        packed = pack(sequences, 90, FILL)
        assert len(packed.tokens) < len(sequences)
        found = []
        for row in range(len(packed.tokens)):
            for number in range(int(packed.segments[row].max()) + 1):
                here = packed.segments[row] == number
                tokens, targets = packed.tokens[row][here], packed.targets[row][here]
                assert packed.positions[row][here].tolist() == list(range(int(here.sum())))
                n = int((targets == IGNORED).sum())  # all that is given but its last token, and the end
                assert targets[n - 1 : -1].tolist() == tokens[n:].tolist()
                assert targets[-1] == IGNORED
                found.append((tokens.tolist(), n))
        assert sorted(found) == sorted((s.tokens.tolist(), s.n_given) for s in sequences)
        assert (packed.targets[packed.segments == PADDING] == IGNORED).all()
        learnt = packed.targets[packed.targets != IGNORED]
        assert ((learnt >= VOCABULARY.first_code) | (learnt == END)).all()

    def test_packed_sequences_have_the_losses_and_gradients_that_each_has_alone(self):
        model = AutoregressiveModel(language_model(), END)
        sequences = examples()
        packed = model(pack(sequences, 128, FILL))
        alone = [model(pack([each], 1, FILL)) for each in sequences]
        for name in packed._fields:
            total = sum(getattr(each, name) for each in alone)
            torch.testing.assert_close(getattr(packed, name).float(), total.float(), rtol=1e-5, atol=1e-5)
        together = torch.autograd.grad(packed.loss, model.parameters())
        apart = torch.autograd.grad(sum(each.loss for each in alone), model.parameters())
        for left, right in zip(together, apart):
            torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-4)

    def test_a_sequence_longer_than_a_row_has_a_row_of_its_own(self):
        packed = pack([VOCABULARY.example(spoken("a" * 9, 0, n_codes=n)) for n in (60, 2, 2)], 40, FILL)
        assert packed.segments.max(1).values.tolist() == [0, 1]
        assert packed.tokens.shape == (2, length_of(9, 60))


class TestLearning:
    def test_a_tiny_corpus_is_learnt_and_repeated(self, learnt):
        model, loss = learnt
        assert loss < 0.02
        for result, (*_, codes) in zip(continued(model, ITEMS), ITEMS):
            assert result.codes.tolist() == codes.tolist()
            assert result.stop == "end"

    def test_a_batch_is_what_each_of_its_items_is_alone(self, learnt):
        together = continued(learnt[0], ITEMS)
        for item, result in zip(ITEMS, together):
            (alone,) = continued(learnt[0], [item])
            assert (alone.codes.tolist(), alone.stop) == (result.codes.tolist(), result.stop)

    def test_with_a_cache_and_without_the_codes_are_the_same(self):
        model = language_model(7)  # one that has learnt nothing hesitates more
        cached, read_again = (continued(model, ITEMS, use_cache=use) for use in (True, False))
        assert [r.codes.tolist() for r in cached] == [r.codes.tolist() for r in read_again]
        assert {len(r.codes) for r in cached} != {1}

    def test_gradient_checkpoints_change_nothing(self):
        model = AutoregressiveModel(language_model().train(), END)
        packed = pack(examples(), 128, FILL)
        plain = torch.autograd.grad(model(packed).loss, model.parameters())
        model.save_memory()
        for left, right in zip(torch.autograd.grad(model(packed).loss, model.parameters()), plain):
            torch.testing.assert_close(left, right)

    @pytest.mark.parametrize("sizes", [{"model_type": "qwen3", "head_dim": 12}, {"tie_word_embeddings": True}], ids=str)
    def test_other_kinds_learn_as_well(self, sizes):
        assert fitted(examples(), 10, **sizes)[1] < fitted(examples(), 1, **sizes)[1]


class TestStart:
    def test_codes_keep_the_distances_of_the_codebook(self):
        model = language_model()
        codebook = torch.randn(CODEBOOK, 8) + 5
        before = model.get_input_embeddings().weight.detach().clone()
        start_from_codebook(model, codebook, VOCABULARY)
        weight = model.get_input_embeddings().weight.detach()
        first = VOCABULARY.first_code
        assert torch.equal(weight[:first], before[:first])
        ratio = torch.cdist(weight[first:], weight[first:]) / torch.cdist(codebook, codebook).clamp(min=1e-9)
        off = ~torch.eye(CODEBOOK, dtype=torch.bool)
        assert ratio[off].std() < 1e-4 * ratio[off].mean()
        assert weight[first:].std().item() == pytest.approx(before[:256].std().item(), rel=1e-3)

    def test_a_wider_codebook_keeps_its_directions_of_most_variance(self):
        model = language_model()
        codebook = torch.cat([torch.randn(CODEBOOK, 4), 1e-4 * torch.randn(CODEBOOK, 96)], dim=1)
        start_from_codebook(model, codebook, VOCABULARY)
        found = model.get_input_embeddings().weight.detach()[VOCABULARY.first_code :]
        ratio = torch.pdist(found) / torch.pdist(codebook)
        assert ratio.std() < 1e-2 * ratio.mean()

    def test_a_codebook_of_another_size_is_refused(self):
        with pytest.raises(ValueError, match="a codebook of 3 entries"):
            start_from_codebook(language_model(), torch.zeros(3, 8), VOCABULARY)

    @pytest.mark.parametrize("tied", [False, True])
    def test_a_text_model_keeps_its_text(self, tmp_path, tied):
        """Its unused rows beyond the tokenizer give way to special tokens and codes."""
        text = language_model(3, tie_word_embeddings=tied)
        text.save_pretrained(tmp_path)
        vocabulary = SpeechVocabulary(250, 40)
        model = from_text_model(tmp_path, vocabulary)
        old, new = text.get_input_embeddings().weight, model.get_input_embeddings().weight
        assert torch.equal(new[:250], old[:250])
        assert len(new) == len(model.get_output_embeddings().weight) == model.config.vocab_size == vocabulary.size
        assert (model.get_output_embeddings().weight is new) == tied
        assert new[250:].std().item() == pytest.approx(old[:250].std().item(), rel=0.2)
        tokens = torch.randint(250, (1, 9))
        assert torch.equal(model(tokens).logits[..., :250], text(tokens).logits[..., :250])
        assert model.config.eos_token_id == model.generation_config.eos_token_id == vocabulary.special_id("end")

    @pytest.mark.parametrize(
        ("sizes", "words"),
        [
            ({"model_type": "gpt2"}, "is no language model that is trained here: llama"),
            ({"hidden": 4}, "hidden: a llama has no such setting"),
            ({"hidden_size": 50}, "must be a multiple of num_attention_heads=4"),
        ],
        ids=["kind", "name", "size"],
    )
    def test_what_no_model_has_is_refused(self, sizes, words):
        with pytest.raises(ValueError, match=words):
            make_language_model({**SIZES, **sizes}, VOCABULARY)
