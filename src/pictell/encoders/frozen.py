"""A frozen CNN, rewritten for a CPU: each convolution with what follows it as one operation.

    fast = fuse(backbone)                # None where the backbone cannot be traced
    (output,) = fast(pixels)             # what backbone.forward_features(pixels) gives

In eval mode a batch norm is a scale and a shift of each channel, which the convolution before it
can do itself: with s = weight / sqrt(variance + eps),

    s (W x + b - mean) + bias  =  (s W) x + (s (b - mean) + bias)

oneDNN applies the activation, and the sum of a residual block, while a convolution's result is
still in the cache. The results are the same but for rounding.

Axes: B images, D channels.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.padding import pad_same
from torch import Tensor, fx, nn

from pictell.encoders.earlier_layers import layer_outputs

# oneDNN's name of an activation, its parameters, and its variant.
Activation = tuple[str, list[float], str]
_ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.Identity: ("none", [], ""),
    nn.ReLU: ("relu", [], ""),
    nn.ReLU6: ("hardtanh", [0.0, 6.0], ""),
    nn.SiLU: ("swish", [], ""),
    nn.Hardswish: ("hardswish", [], ""),
    nn.Sigmoid: ("sigmoid", [], ""),
}
_NONE = _ACTIVATIONS[nn.Identity]
_ADDITIONS = (operator.add, operator.iadd, torch.add)


class FusedConvolution(nn.Module):
    """Convolution, bias, perhaps the sum with another tensor, and an activation.

    Args:
        convolution: Its weights are copied.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        weight, bias = convolution.weight.detach(), convolution.bias
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        self.bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
        self.pads_itself = isinstance(convolution, Conv2dSame)  # TensorFlow's uneven padding
        self.kernel = convolution.kernel_size
        self.padding = [0, 0] if self.pads_itself else list(convolution.padding)
        self.stride, self.dilation = list(convolution.stride), list(convolution.dilation)
        self.groups = convolution.groups
        self.activation = _NONE
        self._laid_out: tuple[torch.Size, Tensor] | None = None

    def fold(self, norm: nn.BatchNorm2d) -> None:
        """Do the work of a batch norm that follows."""
        assert norm.running_mean is not None and norm.running_var is not None
        scale = (norm.running_var + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.detach()
        self.weight = self.weight * scale[:, None, None, None]
        self.bias = (self.bias - norm.running_mean) * scale
        if norm.bias is not None:
            self.bias = self.bias + norm.bias.detach()

    def forward(self, pixels: Tensor, other: Tensor | None = None) -> Tensor:
        """(B, D, rows, columns), and what is to be added to the result."""
        if self.pads_itself:
            pixels = pad_same(pixels, list(self.kernel), self.stride, self.dilation)
        where = (self.padding, self.stride, self.dilation, self.groups)
        name, parameters, variant = self.activation
        weight = self._weight_for(pixels.shape)
        run = torch.ops.mkldnn._convolution_pointwise
        if other is None:
            return run(pixels, weight, self.bias, *where, name, parameters, variant)
        unary = None if name == "none" else name
        return run.binary(
            pixels, other, weight, self.bias, *where, "add", None, unary, parameters, variant
        )

    def _weight_for(self, shape: torch.Size) -> Tensor:
        """The weight in the order in which oneDNN reads it for pictures of this shape."""
        if self._laid_out is None or self._laid_out[0] != shape:
            laid_out = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight, self.padding, self.stride, self.dilation, self.groups, list(shape)
            )
            self._laid_out = (shape, laid_out)
        return self._laid_out[1]


class _Features(nn.Module):
    def __init__(self, backbone: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        self.backbone = backbone
        self.layers = layers

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return layer_outputs(self.backbone, pixels, self.layers)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        leaves = (nn.Conv2d, nn.BatchNorm2d, *_ACTIVATIONS)
        return isinstance(m, leaves) or super().is_leaf_module(m, module_qualified_name)


def fuse(backbone: nn.Module, layers: Sequence[str] = ()) -> fx.GraphModule | None:
    """`layer_outputs` of the backbone and these layers, with fused convolutions.

    Returns:
        None where there is no oneDNN, or the backbone's code cannot be traced, or a layer is one
        that is fused away.
    """
    if not torch.backends.mkldnn.is_available():
        return None
    root = _Features(backbone, layers)
    try:
        graph = _Tracer().trace(root)
    except Exception:  # control flow that depends on the picture: each raises its own
        return None
    traced = fx.GraphModule(root, graph)
    for node in list(graph.nodes):
        if isinstance(_module(traced, node), nn.Conv2d):
            _fuse_after(traced, node)
    graph.lint()
    traced.recompile()
    return traced.eval()


def _module(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _fuse_after(traced: fx.GraphModule, node: fx.Node) -> None:
    """Replace a convolution, and what follows it alone, by one operation."""
    convolution = _module(traced, node)
    assert isinstance(convolution, nn.Conv2d)
    fused = FusedConvolution(convolution)
    name = f"fused_{node.name}"
    traced.add_submodule(name, fused)
    node.target = name
    _skip_identities(traced, node)
    following = _only_user(node)
    norm = _module(traced, following) if following else None
    if isinstance(norm, nn.BatchNorm2d) and not norm.training:
        assert following is not None
        fused.fold(norm)
        _skip(following, node)
        own_activation = getattr(norm, "act", None) if isinstance(norm, BatchNormAct2d) else None
        if own_activation is not None and not _take_activation(fused, own_activation):
            own = f"activation_{node.name}"
            traced.add_submodule(own, own_activation)
            with traced.graph.inserting_after(node):
                activation = traced.graph.call_module(own, (node,))
            node.replace_all_uses_with(activation, lambda user: user is not activation)
            return
    _skip_identities(traced, node)
    if fused.activation == _NONE:
        _fuse_sum(node)
        _skip_identities(traced, node)
        following = _only_user(node)
        module = _module(traced, following) if following else None
        if following and module is not None and _take_activation(fused, module):
            _skip(following, node)


def _skip_identities(traced: fx.GraphModule, node: fx.Node) -> None:
    """Leave out what does nothing, such as dropout of blocks outside training."""
    while (following := _only_user(node)) is not None:
        if not isinstance(_module(traced, following), nn.Identity):
            return
        _skip(following, node)


def _take_activation(fused: FusedConvolution, module: nn.Module) -> bool:
    known = _ACTIVATIONS.get(type(module))
    if known is None:
        return False
    fused.activation = known
    return True


def _fuse_sum(node: fx.Node) -> None:
    """Let the convolution add what its result is added to, if that is there before it."""
    following = _only_user(node)
    if following is None or following.target not in _ADDITIONS or len(following.args) != 2:
        return
    other = next((a for a in following.args if a is not node), None)
    if not isinstance(other, fx.Node) or following.kwargs or not other < node:
        return
    node.args = (node.args[0], other)
    _skip(following, node)


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _skip(node: fx.Node, instead: fx.Node) -> None:
    node.replace_all_uses_with(instead, lambda user: user is not instead)
    node.graph.erase_node(node)
