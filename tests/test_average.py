"""The moving average of weights is torch's, of which every step reads a number."""

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from onebit import models
from onebit.training.average import Average


def test_it_is_torchs_also_from_a_checkpoint():
    torch.manual_seed(0)
    network = models.create("resnet8", "rebnn", classes=10)
    ours, theirs = Average(network, 0.9), AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    start = torch.cat([p.flatten() for p in network.parameters()])
    for step in range(5):
        with torch.no_grad():
            for tensor in (*network.parameters(), *network.buffers()):
                if tensor.is_floating_point():
                    tensor.add_(torch.randn_like(tensor), alpha=0.1)
        ours.update_parameters(network)
        theirs.update_parameters(network)
        assert len(ours.state_dict()) == len(theirs.state_dict()) > 50
        for (name, one), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
            assert torch.equal(one, other), (step, name)
        if step == 2:
            state = ours.state_dict()
            ours = Average(models.create("resnet8", "rebnn", classes=10), 0.9)
            ours.load_state_dict(state)
    end = torch.cat([p.flatten() for p in ours.module.parameters()])
    assert 0.1 < (end - start).std() < 0.2
