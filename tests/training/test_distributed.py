"""Training on several processes: how one joins. What they do together is tested with the bundles."""

from __future__ import annotations

import pytest
import torch

from medrecon.errors import ModelError
from medrecon.training.distributed import join_processes, own_device


def test_without_torchrun_there_is_nothing_to_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with pytest.raises(ModelError, match="several processes") as refused:
        join_processes()
    assert "torchrun" in refused.value.remedy


def test_each_process_takes_the_gpu_of_its_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert own_device() == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert own_device() == torch.device("cuda", 3)
    assert chosen == [torch.device("cuda", 3)]
