"""Training loops that are not ours: the callbacks do what a loop with the hooks does, and one that forgets them is told."""

import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import onebit
from onebit.nn import forgotten

EPOCHS, BATCHES, SIZE, RATE = 3, 4, 8, 0.05


def network(method: str = "rebnn") -> nn.Module:
    """With a schedule (RBNN) or regularization and after_step (ReBNN)."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.BatchNorm2d(32),
        nn.Conv2d(32, 32, 3),
        nn.BatchNorm2d(32),
        nn.Flatten(),
        nn.Linear(512, 4),
    )
    onebit.binarize(model, method)
    return model


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(SIZE, 1, 8, 8, generator=generator), torch.randint(4, (SIZE,), generator=generator))
        for _ in range(BATCHES)
    ]


def by_hand(model: nn.Module, clip: float = 0.0) -> dict[str, Tensor]:
    """The loop of docs/own-model.md, with all hooks."""
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.9)
    model.train()
    for epoch in range(EPOCHS):
        onebit.set_progress(model, epoch / EPOCHS)
        for x, y in batches():
            loss = F.cross_entropy(model(x), y)
            extra = onebit.regularization(model)
            (loss if extra is None else loss + extra).backward()
            onebit.before_step(model)
            clipping = None
            if clip:
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
                clipping = (clip / (norm + 1e-6)).clamp(max=1.0)
            optimizer.step()
            onebit.after_step(model, clipping)
            optimizer.zero_grad()
    return model.state_dict()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert set(a) == set(b)
    for name, value in a.items():
        assert torch.allclose(value.float(), b[name].float(), atol=1e-5), name


@pytest.mark.filterwarnings("ignore")  # of Lightning, of its workers and loggers
@pytest.mark.parametrize("method, clip", [("rebnn", 0.0), ("rebnn", 0.5), ("rbnn", 0.0), ("triad", 0.0)])
def test_lightning(method, clip, tmp_path):
    lightning = pytest.importorskip("lightning.pytorch", reason="pip install lightning")
    from onebit.training.lightning import BinaryCallback

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = network(method)

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            return F.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), RATE, momentum=0.9)

    def fit(**options: object) -> Module:
        trainer = lightning.Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            callbacks=[BinaryCallback()],
            **options,
        )
        module = Module()
        trainer.fit(module, torch.utils.data.DataLoader(batches(), batch_size=None))
        return module

    trained = fit(max_epochs=EPOCHS, gradient_clip_val=clip or None)
    same(trained.model.state_dict(), by_hand(network(method), clip))
    with pytest.raises(onebit.errors.UserError, match="neither max_epochs nor max_steps"):
        fit(max_epochs=-1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["rebnn", "rbnn"])
def test_hugging_face(method, tmp_path):
    transformers = pytest.importorskip("transformers", reason="pip install transformers accelerate")
    pytest.importorskip("accelerate", reason="pip install transformers accelerate")
    from onebit.training.hugging_face import BinaryCallback

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network(method)

        def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = self.network(pixel_values)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    data = [{"pixel_values": x, "labels": y} for images, labels in batches() for x, y in zip(images, labels)]

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *_: object) -> torch.utils.data.Sampler:
            return torch.utils.data.SequentialSampler(data)

    model = Model()
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=SIZE,
        max_grad_norm=0.0,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
    )
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    trainer = InOrder(
        model=model, args=arguments, train_dataset=data, optimizers=(optimizer, schedule), callbacks=[BinaryCallback()]
    )
    trainer.train()
    same(model.network.state_dict(), by_hand(network(method)))


def test_without_the_libraries_one_line_says_what_to_install():
    code = """
import sys
for name in ("lightning", "pytorch_lightning", "transformers"):
    sys.modules[name] = None
from onebit.errors import UserError
from onebit.training import hugging_face, lightning
for module in (lightning, hugging_face):
    try:
        module.BinaryCallback()
    except UserError as error:
        print(error)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(out) == 2 and "pip install lightning" in out[0] and "pip install transformers accelerate" in out[1]


@pytest.fixture
def not_told(monkeypatch):
    monkeypatch.setattr(forgotten, "told", False)


def loop(model: nn.Module, steps: int, hooks: tuple[str, ...] = ()) -> list[str]:
    """A plain loop that calls some of the hooks; what it was told."""
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    x, y = batches()[0]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(steps):
            if "set_progress" in hooks and step == 0:
                onebit.set_progress(model, 0.0)
            loss = F.cross_entropy(model(x), y)
            if "regularization" in hooks:
                loss = loss + onebit.regularization(model)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    "method, hooks, lines",
    [
        ("adabin", (), ["onebit.set_progress(model, epoch / epochs)"]),
        ("rebnn", (), ["onebit.set_progress", "onebit.regularization(model)", "onebit.after_step(model)"]),
        ("rebnn", ("regularization",), ["onebit.set_progress"]),
        ("rebnn", ("regularization", "set_progress"), []),
        ("adabin", ("set_progress",), []),
        ("bireal", (), []),  # needs no hooks
    ],
)
def test_a_loop_that_forgets_the_hooks_is_told_once(method, hooks, lines, not_told):
    model = network(method)
    assert loop(model, forgotten.STEPS - 1, hooks) == []
    told = loop(model, 4, hooks)
    assert len(told) == bool(lines)
    assert all(line in told[0] for line in lines)
    assert loop(network(method), forgotten.STEPS + 4) == [] or not lines, "once in a process"


def test_neither_forward_passes_nor_our_own_objective_count(not_told):
    model = network("adabin")
    with torch.no_grad():
        for _ in range(forgotten.STEPS + 5):
            model(batches()[0][0])
    assert loop(model, 10) == [], "the weights had not changed"
    from onebit import tasks
    from onebit.training.objective import Objective

    model = network("adabin")
    Objective(model, tasks.create("classification", tuple("abcd")))
    assert loop(model, forgotten.STEPS + 5) == []


def test_a_compiled_network_neither_counts_nor_breaks(not_told):
    model = network("adabin")
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert loop(compiled, forgotten.STEPS + 5) == []
    assert model[2].watch.steps == 0
