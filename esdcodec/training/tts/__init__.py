"""The training of speech from text, on the loop and the run of the codec's."""
