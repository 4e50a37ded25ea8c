import torch

from pictell.config import DecoderConfig
from pictell.decoders.regions import RegionReader


def test_without_options_the_cells_pass_as_they_are():
    features = torch.randn(2, 4, 8)
    reader = RegionReader(DecoderConfig(), feature_size=8).train()
    assert reader(features) is features
    assert not list(reader.parameters())


def test_projection_by_hand():
    reader = RegionReader(DecoderConfig(region_projection=3), feature_size=8)
    features = torch.randn(2, 4, 8)
    assert reader.projection is not None
    expected = features @ reader.projection.weight.t() + reader.projection.bias
    torch.testing.assert_close(reader(features), expected.clamp(min=0))


def test_dropout_in_training_only_and_after_the_projection():
    reader = RegionReader(DecoderConfig(region_projection=50, region_dropout=0.4), feature_size=8)
    features = torch.randn(20, 16, 8)
    whole, dropped = reader.eval()(features), reader.train()(features)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.6)
    assert abs(kept[whole > 0].float().mean().item() - 0.6) < 0.02
