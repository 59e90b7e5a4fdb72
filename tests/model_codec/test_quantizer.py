import pytest
import torch

from esdcodec.model_codec.quantizer import ResidualVectorQuantizer, SimVQ, nearest


@pytest.fixture
def rvq():
    torch.manual_seed(0)
    return ResidualVectorQuantizer(latent_dim=16, n_codebooks=4, codebook_size=32, codebook_dim=4)


@pytest.fixture
def simvq():
    torch.manual_seed(0)
    return SimVQ(codebook_size=64, dim=8)


def test_nearest_is_the_nearest():
    points, codebook = torch.randn(3, 5, 8), torch.randn(64, 8)
    torch.testing.assert_close(nearest(points, codebook), torch.cdist(points, codebook[None]).argmin(-1))


class TestSimVQ:
    def test_loss_and_gradient_paths(self, simvq):
        latent = torch.randn(2, 8, 5, requires_grad=True)
        quantized = simvq(latent)
        entries = simvq.effective_codebook()[quantized.codes[:, 0]].transpose(1, 2)
        torch.testing.assert_close(quantized.latent, entries)
        torch.testing.assert_close(quantized.commitment_loss, (latent - entries).square().mean())
        # what goes on passes its gradient straight through to the latent and none to the projection
        weights = torch.randn_like(latent)
        grads = torch.autograd.grad(
            (quantized.latent * weights).sum(), (latent, simvq.projection.weight), allow_unused=True
        )
        torch.testing.assert_close(grads[0], weights)
        assert grads[1] is None
        # the codebook loss reaches the projection, not the latent; the codebook is frozen
        grads = torch.autograd.grad(simvq(latent).codebook_loss, (latent, simvq.projection.weight), allow_unused=True)
        assert grads[0] is None
        assert grads[1].abs().max() > 0
        assert not simvq.codebook.requires_grad

    def test_codes_decode_to_what_was_quantized(self, simvq):
        latent = torch.randn(2, 8, 5)
        with torch.no_grad():
            quantized = simvq(latent)
            assert torch.equal(simvq.encode(latent), quantized.codes)
            assert torch.equal(simvq.decode(quantized.codes), quantized.latent)


class TestResidualVectorQuantizer:
    def test_masked_codebooks_add_neither_signal_nor_loss(self, rvq):
        latent = torch.randn(3, 16, 6)
        all_of_them = rvq(latent, torch.tensor([4, 4, 4]))
        some = rvq(latent, torch.tensor([0, 2, 4]))
        assert torch.equal(some.codes, all_of_them.codes)
        assert not some.latent[0].any()
        torch.testing.assert_close(some.latent[1], rvq.decode(some.codes[1:2, :2])[0])
        torch.testing.assert_close(some.latent[2], all_of_them.latent[2])
        assert 0 < some.commitment_loss < all_of_them.commitment_loss
        assert rvq(latent, torch.tensor([0, 0, 0])).commitment_loss == 0

    def test_losses_are_means_over_all_items_and_sums_over_codebooks(self, rvq):
        latent = torch.randn(2, 16, 6)
        first = [rvq(item, torch.tensor([1])).commitment_loss for item in latent.split(1)]
        masked = rvq(latent, torch.tensor([1, 0]))
        torch.testing.assert_close(masked.commitment_loss, first[0] / 2)
        both = rvq(latent, torch.tensor([1, 1]))
        torch.testing.assert_close(both.commitment_loss, (first[0] + first[1]) / 2)

    def test_masked_codebooks_get_no_gradient(self, rvq):
        latent = torch.randn(2, 16, 6, requires_grad=True)
        output = rvq(latent, torch.tensor([1, 2]))
        (output.latent.square().sum() + output.commitment_loss + output.codebook_loss).backward()
        assert rvq.quantizers[1].codebook.weight.grad.abs().sum() > 0
        assert rvq.quantizers[2].codebook.weight.grad.abs().sum() == 0

    @torch.no_grad()
    @pytest.mark.parametrize("n", [0, 1, 4])
    def test_encode_and_decode_agree_with_forward(self, rvq, n):
        latent = torch.randn(2, 16, 6)
        output = rvq(latent, torch.full((2,), n))
        codes = rvq.encode(latent, n)
        assert torch.equal(codes, output.codes[:, :n])
        torch.testing.assert_close(rvq.decode(codes), output.latent)

    @torch.no_grad()
    def test_search_ignores_length_but_what_is_passed_on_does_not(self, rvq):
        quantizer = rvq.quantizers[0]
        projected = torch.randn(1, 4, 6)
        assert torch.equal(quantizer.search(projected), quantizer.search(7 * projected))
        codes = quantizer.search(projected)
        quantizer.codebook.weight.mul_(3)
        assert torch.equal(quantizer.search(projected), codes)
        torch.testing.assert_close(
            quantizer.decode(codes), quantizer.out_proj(quantizer.codebook.weight[codes].transpose(1, 2))
        )


@pytest.mark.parametrize("search", [
    lambda: nearest(torch.randn(3, 5, 8), torch.randn(64, 8)),
    lambda: SimVQ(codebook_size=64, dim=8).encode(torch.randn(2, 8, 5)),
    lambda: ResidualVectorQuantizer(8, 2, codebook_size=32, codebook_dim=4).encode(torch.randn(2, 8, 5), 2),
])  # fmt: skip
def test_the_nearest_are_found_in_float32_under_autocast_too(search, monkeypatch):
    found, addmm = [], torch.addmm

    def watched(*arguments, **options):
        found.append(addmm(*arguments, **options))
        return found[-1]

    monkeypatch.setattr(torch, "addmm", watched)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        search()
    assert {distances.dtype for distances in found} == {torch.float32}
