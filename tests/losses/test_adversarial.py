from __future__ import annotations

import io
import logging

import pytest
import torch
from monai.engines import AdversarialTrainer
from monai.handlers import StatsHandler
from monai.losses import PatchAdversarialLoss
from monai.networks.nets import MultiScalePatchDiscriminator, PatchDiscriminator
from torch import nn

from medrecon.errors import ModelError
from medrecon.losses import DiscriminatorLoss, GeneratorLoss, LogTerms, WeightedSum

CRITERIA = ["hinge", "least_squares", "bce"]


def discriminator(dims: int = 2) -> PatchDiscriminator:
    return PatchDiscriminator(dims, channels=4, in_channels=1, num_layers_d=1, norm=None)


def trainer(
    generator_loss: GeneratorLoss, steps: int, discriminator_loss: DiscriminatorLoss | None = None
) -> tuple:
    """MONAI's trainer on random pictures; the same seed, the same pictures and starting weights."""
    torch.manual_seed(0)
    net, critic = nn.Conv2d(1, 1, 3, padding=1), discriminator()
    data = [{"image": x, "label": x} for x in torch.rand(steps, 2, 1, 16, 16)]
    recon, d_loss = WeightedSum({"l1": (1, nn.L1Loss())}), discriminator_loss or DiscriminatorLoss()
    engine = AdversarialTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=data,
        g_network=net,
        g_optimizer=torch.optim.SGD(net.parameters(), 0.1),
        g_loss_function=generator_loss,
        recon_loss_function=recon,
        d_network=critic,
        d_optimizer=torch.optim.SGD(critic.parameters(), 0.1),
        d_loss_function=d_loss,
        decollate=False,
    )
    return engine, net, critic, recon, d_loss


def weights(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()]).clone()


def test_trainer_learns_on_both_sides_and_every_term_is_logged() -> None:
    generator = GeneratorLoss(0.1, criterion="hinge")
    engine, net, critic, recon, d_loss = trainer(
        generator, steps=4, discriminator_loss=DiscriminatorLoss("hinge")
    )
    before = weights(net), weights(critic)
    stream = io.StringIO()
    logger = logging.getLogger("adversarial-test")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.StreamHandler(stream))
    log = LogTerms([recon, generator, d_loss])
    StatsHandler(name="adversarial-test", output_transform=log).attach(engine)
    engine.run()
    assert not torch.equal(before[0], weights(net))
    assert not torch.equal(before[1], weights(critic))
    assert set(log()) == {
        "l1",
        "adversarial",
        "adversarial_weight",
        "discriminator_real",
        "discriminator_fake",
    }
    assert all(f"{name}:" in stream.getvalue() for name in log())
    assert "loss" not in engine.state.output, "MONAI sets it now: LogTerms is not needed for that any more"


def test_warm_up_is_reconstruction_alone() -> None:
    results = {}
    for name, loss in {
        "never": GeneratorLoss(0.0),
        "later": GeneratorLoss(5.0, start=3),
        "now": GeneratorLoss(5.0),
    }.items():
        engine, net, *_ = trainer(loss, steps=3)
        engine.run()
        results[name] = weights(net)
    assert torch.equal(results["never"], results["later"])
    assert not torch.allclose(results["never"], results["now"])


def test_discriminator_waits_for_its_start() -> None:
    engine, _, critic, *_ = trainer(
        GeneratorLoss(0.1), steps=2, discriminator_loss=DiscriminatorLoss(start=2)
    )
    before = weights(critic)
    engine.run()
    assert torch.equal(before, weights(critic))


def test_schedule_and_resume() -> None:
    loss, logits = GeneratorLoss(1.0, start=2, ramp=3), torch.zeros(1, 1, 2, 2)
    factors = []
    for step in range(8):
        if step == 4:
            state, loss = loss.state_dict(), GeneratorLoss(1.0, start=2, ramp=3)
            loss.load_state_dict(state)
        loss(logits)
        factors.append(loss.last["adversarial_weight"])
    assert factors == [0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    with torch.no_grad():
        loss(logits)
    loss.eval()(logits)
    assert loss.step == 8, "only training counts"


@pytest.mark.parametrize("criterion", CRITERIA)
def test_values_are_monais_on_the_logits_alone(criterion: str) -> None:
    torch.manual_seed(0)
    real, fake = (discriminator()(torch.rand(2, 1, 16, 16)) for _ in range(2))
    wanted = PatchAdversarialLoss(criterion=criterion)
    g = GeneratorLoss(0.5, criterion=criterion)(fake)
    assert g.item() == pytest.approx(0.5 * wanted(fake[-1], True, False).item())
    d = DiscriminatorLoss(criterion)(real, fake)
    both = wanted(real[-1], True, True) + wanted(fake[-1], False, True)
    assert d.item() == pytest.approx(both.item() / 2)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_opposite_aims(criterion: str) -> None:
    sure_real, sure_fake = torch.full((1, 1, 4, 4), 3.0), torch.full((1, 1, 4, 4), -3.0)
    if criterion == "least_squares":
        sure_real = sure_real / 3
    generator, critic = GeneratorLoss(1.0, criterion), DiscriminatorLoss(criterion)
    assert generator(sure_real) < generator(sure_fake)
    assert critic(sure_real, sure_fake) < critic(sure_fake, sure_real)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("dims", [2, 3])
def test_constant_patches_and_mixed_precision(criterion: str, dims: int) -> None:
    critic = discriminator(dims)
    for value in (0.0, 1.0):
        image = torch.full((1, 1, *(16,) * dims), value, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16):
            loss = GeneratorLoss(1.0, criterion)(critic(image))
        loss.backward()
        assert loss.dtype == torch.float32
        assert torch.isfinite(image.grad).all()


def test_multi_scale_discriminator() -> None:
    critic = MultiScalePatchDiscriminator(2, 1, 2, 4, 1, minimum_size_im=32, norm=None)
    outputs = critic(torch.rand(1, 1, 32, 32))
    wanted = PatchAdversarialLoss(criterion="hinge")(outputs[0], True, False)
    assert GeneratorLoss(1.0, "hinge")(outputs).item() == pytest.approx(wanted.item())


def test_refusals() -> None:
    with pytest.raises(ModelError, match="no criterion 'wasserstein'; choose hinge"):
        GeneratorLoss(criterion="wasserstein")
    with pytest.raises(ModelError, match="give numbers from 0 up"):
        GeneratorLoss(weight=-1)
