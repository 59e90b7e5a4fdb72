"""The choice of the next code, and the ends of generation."""

from collections import Counter

import pytest
import torch

from esdcodec.model_tts.decoding import Chooser, DecodingSettings, repeats
from esdcodec.model_tts.generate import generate
from tests.model_tts.tiny import VOCABULARY, language_model, spoken

END = 3  # of four choices
NEVER, SURE = -1e9, 1e9


def counts(settings: DecodingSettings, logits: list[float], codes: list[int], n: int = 2000) -> Counter[int]:
    """How often each choice is made after `codes`."""
    chooser = Chooser(settings, expected=1000.0)
    return Counter(chooser(torch.tensor(logits), codes) for _ in range(n))


def plain(**settings: object) -> DecodingSettings:
    """Draws from all codes, without a lower limit of the length."""
    return DecodingSettings(**{"temperature": 1.0, "top_k": None, "top_p": 1.0, "min_length": 0.0, **settings})


class TestChoice:
    LOGITS = (*torch.tensor([0.5, 0.3, 0.2]).log().tolist(), NEVER)
    AFTER = (9,) * 300  # above the lower limits of the length, and none of the choices

    def test_codes_are_drawn_as_often_as_they_are_probable(self):
        found = counts(plain(), self.LOGITS, self.AFTER)
        for code, share in enumerate((0.5, 0.3, 0.2)):
            assert found[code] / 2000 == pytest.approx(share, abs=0.04)

    @pytest.mark.parametrize(
        ("settings", "left"),
        [
            ({"temperature": 0}, {0}),
            ({"top_k": 2}, {0, 1}),
            ({"top_p": 0.5}, {0}),
            ({"top_p": 0.51}, {0, 1}),
            ({"temperature": 0.05}, {0}),
            ({"top_k": 9}, {0, 1, 2}),
        ],
        ids=str,
    )
    def test_improbable_codes_are_left_out(self, settings, left):
        assert set(counts(plain(**settings), self.LOGITS, self.AFTER)) == left

    def test_the_same_seed_draws_the_same(self):
        draws = [[Chooser(plain(seed=s), 1e3)(torch.zeros(4), [9] * n) for n in range(50)] for s in (1, 1, 2)]
        assert draws[0] == draws[1] != draws[2]

    def test_a_code_that_was_repeated_too_often_is_drawn_again_from_all(self):
        settings = plain(top_p=0.5, repetition_window=10, repetition_share=0.3)
        assert set(counts(settings, self.LOGITS, [0] * 3 + [9] * 7)) == {0}
        assert set(counts(settings, self.LOGITS, [0] * 4 + [9] * 6)) == {0, 1, 2}
        assert set(counts(settings, self.LOGITS, [0] * 50 + [9] * 10)) == {0}  # long ago
        assert set(counts(plain(top_p=0.5, repetition_window=0), self.LOGITS, [0] * 50)) == {0}


class TestEnd:
    def test_there_is_none_before_the_least_length(self):
        settings = DecodingSettings(temperature=0, min_length=0.5)
        logits = torch.tensor([0.0, 0.0, 0.0, SURE])
        assert Chooser(settings, 20)(logits, [0] * 9) != END
        assert Chooser(settings, 20)(logits, [0] * 10) == END
        assert Chooser(DecodingSettings(temperature=0, min_length=0), 20)(logits, []) != END  # never of nothing

    def test_it_becomes_more_probable_beyond_the_expected_length(self):
        settings = DecodingSettings(temperature=0, ramp_start=1.5, ramp=20)
        logits = torch.tensor([0.0, 0.0, 0.0, -9.9])
        chosen = [Chooser(settings, 20)(logits, [0] * n) for n in (20, 30, 39, 40)]
        assert chosen == [0, 0, 0, END]

    @pytest.mark.parametrize(
        ("codes", "found"),
        [
            ([5] * 30, True),
            ([*range(24), 1, 2, 1, 2, 1, 1], False),
            ([1, 2, 2, 1] * 8, True),
            ([*range(7)] * 4, True),
            ([*range(9)] * 4, False),
            ([*range(30)], False),
            ([5] * 23, False),
            ([*range(100), *[5] * 24], True),
        ],
    )
    def test_a_loop_is_few_codes_or_the_same_ones_again_and_again(self, codes, found):
        assert repeats(codes, 24, 2) == found

    def test_without_a_window_there_is_no_loop(self):
        assert not repeats([5] * 1000, 0, 3)


class TestGeneration:
    """By a network that was made to say one thing."""

    def says(self, choice: int | None) -> object:
        """A network that always rates `choice` highest; the end, if that is None."""
        model = language_model()
        with torch.no_grad():
            for parameter in model.model.layers.parameters():
                parameter.zero_()
            model.model.embed_tokens.weight.fill_(1.0)
            model.lm_head.weight.zero_()
            token = VOCABULARY.special_id("end") if choice is None else VOCABULARY.first_code + choice
            model.lm_head.weight[token] = 1.0
        return model

    def generated(self, choice, **settings):
        given = [VOCABULARY.given(b"text")]
        return generate(self.says(choice), VOCABULARY, given, [40.0], DecodingSettings(temperature=0, **settings))[0]

    def test_the_model_ends_it(self):
        result = self.generated(None, min_length=0.1)
        assert (result.stop, result.codes.tolist()) == ("end", [0] * 4)  # all codes are alike until it may end

    def test_silence_that_goes_on_ends_it_and_is_cut_off(self):
        result = self.generated(7, loop_window=30, ramp=0.0)
        assert (result.stop, result.codes.tolist()) == ("loop", [7])

    def test_the_ramp_ends_it(self):
        result = self.generated(7, loop_window=0, ramp_start=1.0, ramp=480.0)
        assert result.stop == "end"
        assert 40 < len(result.codes) < 50

    def test_the_greatest_length_ends_it(self):
        result = self.generated(7, loop_window=0, ramp=0.0, max_length=1.5)
        assert (result.stop, len(result.codes)) == ("length", 60)

    def test_the_model_cannot_read_more_than_it_was_made_for(self):
        said = spoken("text", 0)
        given = [VOCABULARY.given(said.text, spoken("voice", 1, n_codes=400))]
        result = generate(self.says(7), VOCABULARY, given, [40.0], DecodingSettings(loop_window=0, ramp=0.0))[0]
        assert len(result.codes) == 512 - len(given[0])
        with pytest.raises(ValueError, match="the model reads 512: split the text into sentences"):
            generate(self.says(7), VOCABULARY, given, [200.0], DecodingSettings())

    def test_drawn_items_of_a_batch_are_what_they_are_alone(self):
        model = language_model(5)
        given = [VOCABULARY.given(text) for text in (b"a", b"something longer", b"words")]
        settings = DecodingSettings(temperature=1.0, seed=3)
        together = generate(model, VOCABULARY, given, [20.0] * 3, settings)
        alone = [generate(model, VOCABULARY, [each], [20.0], settings)[0] for each in given]
        assert [r.codes.tolist() for r in together] == [r.codes.tolist() for r in alone]
        assert [r.stop for r in together] == [r.stop for r in alone]


@pytest.mark.parametrize(
    "settings",
    [{"temperature": -1}, {"top_k": 0}, {"top_p": 0}, {"min_length": 4}, {"loop_window": 2}, {"repetition_share": 2}],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))}=.* must be"):
        DecodingSettings(**settings)
