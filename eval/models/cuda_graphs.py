"""Calls of the same shapes recorded once and replayed on a GPU, so that many small kernels take one launch.

    calls = RecordedCalls("cuda")
    tokens, ends = calls((8, 640), step, tokens, ends)       # recorded at the first call of this key

A decoding step of a 7B model is about a thousand kernels, which take longer to launch than to run. Elsewhere than on a
GPU every call is a plain call. This has not been run on a GPU yet: should recording fail, the calls are plain from then
on, and one line says so.
"""

import sys
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch

from configs.errors import first_line

Tensors = tuple[torch.Tensor, ...]
WARM_UP = 2  # plain calls before recording: kernels are chosen and workspaces allocated
MOST = 32  # recordings held; each keeps the memory of its intermediate results


@dataclass
class _Recording:
    graph: Any
    inputs: Tensors
    outputs: Tensors


class RecordedCalls:
    """Recordings by key; `clear` where a tensor that the functions hold (keys, weights) has moved."""

    def __init__(self, device: str):
        """`device` is the type of the tensors' device."""
        self.records = device == "cuda"
        self._recordings: dict[Hashable, _Recording] = {}

    def clear(self) -> None:
        """Forget all recordings."""
        self._recordings.clear()

    def __call__(self, key: Hashable, function: Callable[..., Tensors], *inputs: torch.Tensor) -> Tensors:
        """`function(*inputs)`, whose shapes and whose other tensors are the same whenever `key` is.

        The results are overwritten by the next call with this key.
        """
        if not self.records:
            return function(*inputs)
        if key not in self._recordings:
            made = self._record(function, inputs)
            if made is None:
                return function(*inputs)
            if len(self._recordings) >= MOST:
                self._recordings.pop(next(iter(self._recordings)))
            self._recordings[key] = made
        recording = self._recordings[key]
        for held, given in zip(recording.inputs, inputs, strict=True):
            held.copy_(given)
        recording.graph.replay()
        return recording.outputs

    def _record(self, function: Callable[..., Tensors], inputs: Tensors) -> _Recording | None:
        held = tuple(tensor.clone() for tensor in inputs)
        try:
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    function(*held)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads decode and move images
                outputs = function(*held)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.records = False
            torch.cuda.synchronize()
            reason = first_line(error)
            print(f"decoding steps are not recorded as CUDA graphs, which is slower: {reason}", file=sys.stderr)
            return None
        return _Recording(graph, held, outputs)
