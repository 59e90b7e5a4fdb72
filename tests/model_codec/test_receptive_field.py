"""What the layers say of their receptive field is what a NaN in their input touches, no more and no less."""

import pytest
import torch
from torch import nn

from esdcodec import ESDCodec
from esdcodec.model_codec.chunking import decoding, encoding
from esdcodec.model_codec.receptive_field import Context, context, receptive_field, receptive_field_of_decoder

HOP = 120


class TestReceptiveField:
    """What the layers say is what a NaN in their input touches, no more and no less."""

    @staticmethod
    def touched(network, n_frames, shape, per_frame_out):
        """Frames of output that become NaN by frame `n_frames // 2` of input."""
        inputs = torch.zeros(shape)
        unit = shape[-1] // n_frames
        middle = n_frames // 2
        inputs[..., middle * unit : (middle + 1) * unit] = torch.nan
        with torch.no_grad():
            output = network(inputs)
        frames = torch.isnan(output).flatten(0, 1).any(0).view(-1, per_frame_out).any(1).nonzero()[:, 0]
        return Context(left=int(frames[-1]) - middle, right=middle - int(frames[0]))

    def test_encoder(self, tiny_codec):
        measured = self.touched(tiny_codec.encoder, 61, (1, 1, 61 * HOP), 1)
        assert context(receptive_field(tiny_codec.encoder, (0, 0)), HOP) == measured

    def test_semantic_decoder(self, tiny_codec):
        measured = self.touched(tiny_codec.semantic_decoder, 41, (1, 32, 41), 1)
        assert context(receptive_field(tiny_codec.semantic_decoder, (0, 0))) == measured == Context(6, 6)

    def test_condition_network(self, tiny_codec):
        hop = tiny_codec.subband_hop_length
        measured = self.touched(lambda x: tiny_codec.condition_network(x)[0], 61, (1, 32, 61), hop)
        assert context(receptive_field(tiny_codec.condition_network, (0, hop - 1))) == measured

    def test_decoder(self, tiny_codec):
        hop = tiny_codec.subband_hop_length
        latent, subband = receptive_field_of_decoder(tiny_codec.decoder, (0, HOP - 1))
        n = 61
        by_latent = self.touched(lambda x: tiny_codec.decoder(x, torch.zeros(1, 1, n * hop)), n, (1, 32, n), HOP)
        by_subband = self.touched(lambda x: tiny_codec.decoder(torch.zeros(1, 32, n), x), n, (1, 1, n * hop), HOP)
        assert context(latent) == by_latent
        assert context(subband, hop) == by_subband

    def test_published_size(self):
        with torch.device("meta"):
            codec = ESDCodec()
        contexts = [
            s.context for p in (encoding(codec, 3, chunk_frames=1), decoding(codec, chunk_frames=1)) for s in p.stages
        ]
        assert contexts == [(8, 8), (12, 12), (12, 12), (24, 24), (10, 10)]

    def test_an_unknown_layer_is_refused(self):
        with pytest.raises(TypeError, match="register it"):
            receptive_field(nn.Sequential(nn.LSTM(1, 1)), (0, 0))
