"""fsdp2: the weights of a stage dealt out to its processes, gathered layer by layer where they are used.

A backbone's layers are gathered one by one, the rest with the stage's loss. In a validation, which draws in
ways that no hook sees, everything is gathered; what is kept and saved is always whole.

Source: PyTorch, `torch.distributed.fsdp.fully_shard`; Lightning's `ModelParallelStrategy`.
https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any, final

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.utils import _pytree as pytree

from calmkit.head_calls import UnitLoss
from calmkit.interfaces import LossOutput
from calmkit.training.layers import backbone_layers

FSDP2 = "fsdp2"


@final
class ShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy with all processes in the one direction of data."""

    def setup_environment(self) -> None:
        """One mesh of all processes."""
        self._data_parallel_size, self._tensor_parallel_size = self.num_processes * self.num_nodes, 1
        super().setup_environment()


def shard(trained: nn.Module, mesh: DeviceMesh) -> None:
    """Deal out what a stage trains, in place. A module that is dealt out already stays as it is.

    Args:
        trained: An autoencoder or a whole model; its `loss` is what gathers it.
        mesh: Of all processes.
    """
    if isinstance(trained, FSDPModule):
        return
    for loss in (UnitLoss, LossOutput):
        _let_hooks_see(loss)
    data = mesh["data_parallel"]
    for layer in backbone_layers(trained):
        fully_shard(layer, mesh=data)
    fully_shard(trained, mesh=data)
    register_fsdp_forward_method(trained, "loss")


def gather(trained: nn.Module) -> None:
    """Let every process hold all weights until `scatter`, for uses that no hook sees."""
    for part in _sharded(trained):
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()


def scatter(trained: nn.Module) -> None:
    """Deal out again."""
    for part in _sharded(trained):
        part.reshard()
        part.set_reshard_after_forward(part is not trained, recurse=False)


def whole_state(trained: nn.Module) -> dict[str, torch.Tensor]:
    """The whole tensors of a module, on the CPU. All processes must call it where it is dealt out."""
    return {name: whole(value) for name, value in trained.state_dict().items()}


def whole(value: torch.Tensor) -> torch.Tensor:
    """A copy of a whole tensor on the CPU. All processes must call it where the tensor is dealt out."""
    gathered = value.full_tensor() if isinstance(value, DTensor) else value
    return gathered.detach().to("cpu", copy=True).contiguous()


def _sharded(trained: nn.Module) -> Iterator[Any]:
    return (module for module in trained.modules() if isinstance(module, FSDPModule))


def _let_hooks_see(loss: type) -> None:
    """FSDP2 looks for tensors in what a module gives, and doesn't see into a class it has not heard of."""
    if loss in pytree.SUPPORTED_NODES:
        return
    names = [field.name for field in fields(loss)]
    pytree.register_pytree_node(
        loss,
        lambda value: ([getattr(value, name) for name in names], None),
        lambda values, context: loss(*values),
    )
