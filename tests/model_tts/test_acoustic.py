"""The network that adds acoustic codes: what it sees, and that its pieces are the whole."""

from dataclasses import replace

import pytest
import torch

from esdcodec.model_tts.acoustic import AcousticModel
from esdcodec.model_tts.acoustic_generation import AcousticPrompt, AcousticSettings, AcousticStream, acoustic_codes

SIZES = (16, 12, 12, 12)
CHUNK = 4


def network(seed: int = 0) -> AcousticModel:
    torch.manual_seed(seed)
    model = AcousticModel(codebook_sizes=SIZES, dim=32, hidden=48, blocks=2, heads=2, chunk_frames=CHUNK).eval()
    for parameter in model.parameters():  # a new one's norms do not tell codebooks apart
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def codes(n_frames: int, seed: int = 0, batch: int = 1) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(size, (batch, n_frames), generator=random) for size in SIZES], dim=1)


def filled(items: list[torch.Tensor], *, at_the_end: bool) -> torch.Tensor:
    """Items ``[1, K, L]`` of different lengths as a batch."""
    longest = max(item.shape[-1] for item in items)
    missing = [longest - item.shape[-1] for item in items]
    padding = [(0, n) if at_the_end else (n, 0) for n in missing]
    return torch.cat([torch.nn.functional.pad(item, pad, value=-1) for item, pad in zip(items, padding)])


@pytest.fixture
def model():
    return network()


class TestSight:
    """By what changes the logits."""

    def changed(self, model, codebook, change, n_frames=3 * CHUNK, prompt=None):
        """Frames whose logits are other ones after `change` of the codes."""
        before = codes(n_frames)
        after = before.clone()
        change(after)
        which = torch.tensor([codebook])
        left, right = model(before, which, prompt), model(after, which, prompt)
        return {i for i in range(n_frames) if not torch.allclose(left[0, i], right[0, i], atol=1e-5)}

    @pytest.mark.parametrize(("frame", "seen_by"), [(0, range(12)), (5, range(4, 12)), (11, range(8, 12))])
    def test_a_frame_is_seen_by_its_chunk_and_all_after_it(self, model, frame, seen_by):
        def change(c):
            c[:, 0, frame] = (c[:, 0, frame] + 1) % 16

        assert self.changed(model, 1, change) == set(seen_by)

    @pytest.mark.parametrize(("codebook", "row", "seen"), [(1, 1, False), (2, 1, True), (2, 2, False), (3, 2, True)])
    def test_only_lower_codebooks_are_seen(self, model, codebook, row, seen):
        def change(c):
            c[:, row] = (c[:, row] + 1) % 12

        assert bool(self.changed(model, codebook, change)) == seen

    def test_the_prompt_is_seen_by_all_and_sees_nothing(self, model):
        prompts = [codes(5, seed=seed) for seed in (1, 2)]
        logits = [model(codes(12), torch.tensor([1]), prompt) for prompt in (*prompts, None)]
        for left, right in [(0, 1), (0, 2)]:
            assert not torch.isclose(logits[left], logits[right], atol=1e-4).all(-1).any()

    def test_a_prompt_of_nothing_is_none(self, model):
        nothing = torch.full((1, 4, 7), -1)
        which = torch.tensor([2])
        torch.testing.assert_close(model(codes(9), which, nothing), model(codes(9), which))


@pytest.mark.parametrize("n_frames", [0, 3])
def test_all_weights_have_gradients_whether_there_are_prompts_or_not(model, n_frames):
    """As training in several processes needs."""
    model.loss(codes(9), torch.tensor([1]), codes(n_frames, seed=1)).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_batch_is_what_each_of_its_items_is_alone(model):
    """With other codebooks, lengths and prompts."""
    items, prompts = [codes(n, seed=n) for n in (11, 6, 9)], [codes(n, seed=n) for n in (3, 8, 1)]
    which = torch.tensor([1, 3, 2])
    together = model(filled(items, at_the_end=True), which, filled(prompts, at_the_end=False))
    for i, (item, prompt) in enumerate(zip(items, prompts)):
        alone = model(item, which[i : i + 1], prompt)[0]
        torch.testing.assert_close(together[i, : len(alone)], alone, rtol=1e-4, atol=1e-4)
    losses = [
        model.loss(item, which[i : i + 1], prompt) * item.shape[-1]
        for i, (item, prompt) in enumerate(zip(items, prompts))
    ]
    loss = model.loss(filled(items, at_the_end=True), which, filled(prompts, at_the_end=False))
    assert loss.item() == pytest.approx(sum(losses).item() / 26, rel=1e-4)


class TestGeneration:
    GREEDY = AcousticSettings(temperature=0)

    @pytest.mark.parametrize("prompted", [False, True])
    def test_each_codebook_is_the_most_probable_one_after_those_below(self, model, prompted):
        prompt = codes(5, seed=1) if prompted else None
        semantic = codes(10)[0, 0]
        found = acoustic_codes(model, semantic, None if prompt is None else prompt[0], self.GREEDY)
        assert found[0].equal(semantic)
        for k in (1, 2, 3):
            assert found[k].equal(model(found[None], torch.tensor([k]), prompt)[0].argmax(-1))

    @pytest.mark.parametrize("settings", [GREEDY, AcousticSettings(seed=3), AcousticSettings(guidance=2.5)], ids=str)
    @pytest.mark.parametrize("pieces", [[1] * 11, [4, 4, 3], [7, 0, 4]], ids=str)
    def test_streamed_codes_are_those_of_the_whole(self, model, settings, pieces):
        semantic, prompt = codes(11)[0, 0], codes(6, seed=1)[0]
        stream = AcousticStream(model, prompt, settings)
        found = [stream.push(piece) for piece in semantic.split(pieces)] + [stream.finish()]
        assert torch.cat(found, dim=-1).equal(acoustic_codes(model, semantic, prompt, settings))
        assert [f.shape[-1] % CHUNK for f in found[:-1]] == [0] * len(pieces)  # as soon as a chunk is there
        assert found[-1].shape[-1] == 3

    @pytest.mark.parametrize("guidance", [1.0, 2.5])
    def test_a_prompt_that_was_read_once_is_good_for_many(self, model, guidance):
        settings, prompt = replace(self.GREEDY, guidance=guidance), codes(6, seed=1)[0]
        read = AcousticPrompt(model, prompt)
        for seed in (2, 3):
            semantic = codes(9, seed=seed)[0, 0]
            expected = acoustic_codes(model, semantic, prompt, settings)
            assert acoustic_codes(model, semantic, read, settings).equal(expected)

    def test_how_many_codebooks_is_chosen_when_they_are_made(self, model):
        semantic = codes(9)[0, 0]
        whole = acoustic_codes(model, semantic, None, self.GREEDY)
        for n in (1, 2, 3):
            assert acoustic_codes(model, semantic, None, replace(self.GREEDY, n_quantizers=n)).equal(whole[:n])

    def test_guidance_goes_beyond_what_the_prompt_changes(self, model):
        semantic, prompt = codes(8)[0, 0], codes(6, seed=1)[0]
        guided = acoustic_codes(model, semantic, prompt, replace(self.GREEDY, guidance=3.0, n_quantizers=2))
        which, whole = torch.tensor([1]), semantic[None, None]
        told, untold = model(whole, which, prompt[None]), model(whole, which)
        assert guided[1].equal((untold + 3.0 * (told - untold))[0].argmax(-1))
        nothing = acoustic_codes(model, semantic, prompt, replace(self.GREEDY, guidance=0.0))
        assert nothing.equal(acoustic_codes(model, semantic, None, self.GREEDY))

    def test_the_first_codebook_is_drawn_and_the_seed_decides(self, model):
        semantic = codes(12)[0, 0]
        settings = [AcousticSettings(temperature=5.0, top_p=1.0, seed=seed) for seed in (1, 1, 2)]
        one, again, other = (acoustic_codes(model, semantic, None, each)[1] for each in settings)
        assert one.equal(again)
        assert not one.equal(other)

    @pytest.mark.parametrize(
        ("prompt", "settings", "words"),
        [
            (None, AcousticSettings(n_quantizers=5), "this model has 1 to 4"),
            (codes(3)[0, :2], GREEDY, r"must be codes \[4, frames\] of all codebooks"),
        ],
        ids=["codebooks", "prompt"],
    )
    def test_what_the_model_cannot_do_is_refused(self, model, prompt, settings, words):
        with pytest.raises(ValueError, match=words):
            acoustic_codes(model, codes(4)[0, 0], prompt, settings)


def test_it_learns_to_speak_in_the_voice_of_its_prompt():
    """Acoustic codes that are the semantic ones, moved by what the prompt holds."""
    torch.manual_seed(0)
    model = AcousticModel(codebook_sizes=(8, 8, 8), dim=32, hidden=64, blocks=2, heads=2, chunk_frames=CHUNK)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    random = torch.Generator().manual_seed(0)

    def batch(n):
        semantic, voice = torch.randint(8, (n, 6), generator=random), torch.randint(3, (n, 1), generator=random)
        spoken = torch.stack([semantic, (semantic + voice) % 8, (semantic + 2 * voice) % 8], dim=1)
        return spoken, torch.stack([voice.expand(n, 2)] * 3, dim=1)

    for _ in range(200):
        spoken, prompt = batch(32)
        loss = model.loss(spoken, torch.randint(1, 3, (32,), generator=random), prompt)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    spoken, prompt = batch(8)
    for item, voice in zip(spoken, prompt):
        assert acoustic_codes(model, item[0], voice, AcousticSettings(temperature=0)).equal(item)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [({"codebook_sizes": (8, 4, 5)}, "equal acoustic ones"), ({"codebook_sizes": (8, 4), "heads": 3}, "multiple of 2")],
    ids=["codebooks", "heads"],
)
def test_sizes_that_no_network_has_are_refused(sizes, words):
    with pytest.raises(ValueError, match=words):
        AcousticModel(**{"dim": 32, **sizes})
