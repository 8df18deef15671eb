"""The loop: what it computes, what it keeps, what it refuses. test_resume.py and test_distributed.py hold the rest."""

import copy
import math

import pytest
import torch
from torch import nn

from commonspace.training import History, epoch_order, load_state, seeded, train

N = 20


def problem(seed: int = 0, dropout: float = 0.0):
    with seeded(seed):
        net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Dropout(dropout), nn.Linear(6, 1))
        x = torch.randn(N, 3)
    return net, x, x.prod(dim=1, keepdim=True)


def squares(x, y):
    return lambda module, ids, epoch: {"loss": ((module(x[ids]) - y[ids]) ** 2).mean()}


def fit(net, step, optimizers=None, **arguments) -> History:
    if optimizers is None:
        optimizers = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.5)
    arguments = {"epochs": 2, "batch_size": 6, "device": "cpu", **arguments}
    return train(net, step, N, optimizers=optimizers, **arguments)


def equal(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))


# ---- what it computes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("drop_last", [True, False])
def test_it_is_the_loop_one_would_write(seed, clip, drop_last):
    net, x, y = problem(seed, dropout=0.3)
    reference = copy.deepcopy(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.5)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    history = fit(
        net, squares(x, y), optimizer, schedulers=scheduler, seed=seed, clip=clip, drop_last=drop_last, log_every=2
    )
    losses = []
    with seeded(seed):
        optimizer = torch.optim.SGD(reference.parameters(), lr=0.1, momentum=0.5)
        for epoch in range(2):
            order = epoch_order(N, seed, epoch)
            for start in range(0, 18 if drop_last else 20, 6):
                optimizer.zero_grad()
                ids = order[start : start + 6]
                loss = ((reference(x[ids]) - y[ids]) ** 2).mean()
                loss.backward()
                if clip:
                    nn.utils.clip_grad_norm_(reference.parameters(), clip)
                optimizer.step()
                optimizer.param_groups[0]["lr"] *= 0.9
                losses.append(loss.item())
    assert equal(net.state_dict(), reference.state_dict())
    steps = len(losses) // 2
    ends = sorted({*range(2, len(losses) + 1, 2), steps, 2 * steps})
    means = [sum(losses[a:b]) / (b - a) for a, b in zip([0, *ends], ends, strict=False)]
    assert [row["step"] for row in history.rows] == ends
    assert [row["epoch"] for row in history.rows] == [(end - 1) // steps for end in ends]
    assert history.column("loss") == pytest.approx(means)
    assert not net.training
    assert all(p.grad is None for p in net.parameters())


def test_each_optimiser_steps_on_its_own_loss_alone():
    """Two weights, two losses that reach both; by hand: w -= lr * dL/dw of its own optimiser's loss, nothing more."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(2.0))

    net, calls = Two(), []

    def step(module, ids, epoch, name):
        calls.append((name, tuple(ids.tolist()), module.a.grad, module.b.grad))
        if name == "a":
            return {"loss": module.a * module.b, "a": module.a}
        return {"loss": 3 * module.a * module.b}

    optimizers = {name: torch.optim.SGD([p], lr=0.1) for name, p in net.named_parameters()}
    history = fit(net, step, optimizers, order=("a", "a", "b"), epochs=1, batch_size=10, log_every=1)
    a, b, losses = 1.0, 2.0, []
    for _ in range(2):
        for _ in range(2):
            losses.append(a * b)
            a -= 0.1 * b
        b -= 0.1 * 3 * a
    assert net.a.item() == pytest.approx(a)
    assert net.b.item() == pytest.approx(b)
    assert [name for name, *_ in calls] == ["a", "a", "b"] * 2
    assert calls[0][1] == calls[1][1] == calls[2][1] != calls[3][1]
    assert all(grad is None for call in calls for grad in call[2:])
    assert history.column("a/loss") == pytest.approx([sum(losses[:2]) / 2, sum(losses[2:]) / 2])
    assert history.rows[0].keys() == {"step", "epoch", "a/loss", "a/a", "b/loss"}


def test_the_callers_generators_go_on_as_before():
    net, x, y = problem(dropout=0.5)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(net, squares(x, y))
    assert torch.equal(torch.rand(3), expected)


def test_seeds_matter_and_repeat():
    weights = []
    for seed in (3, 3, 4):
        net, x, y = problem(dropout=0.5)
        torch.rand(seed)
        fit(net, squares(x, y), seed=seed)
        weights.append(net.state_dict())
    assert equal(weights[0], weights[1])
    assert not equal(weights[0], weights[2])


# ---- the epoch that is kept -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "best"), [((1, 3, 2), 1), ((3, 3, 1), 0), ((-5, -4, -3), 2), ((-math.inf, 0, 0), 1)]
)
def test_the_best_epoch_is_put_back(tmp_path, values, best):
    net, x, y = problem(dropout=0.3)
    seen = []

    def validate(module):
        assert not module.training
        assert not torch.is_grad_enabled()
        seen.append(copy.deepcopy(module.state_dict()))
        return values[len(seen) - 1]

    history = fit(net, squares(x, y), epochs=3, validate=validate, output=tmp_path)
    assert equal(net.state_dict(), seen[best])
    assert (history.best_epoch, history.best_value) == (best, values[best])
    assert history.column("validation") == list(values)
    assert equal(load_state(tmp_path / "state.pt")["module"], seen[2])  # from where more epochs would go on
    last, x, y = problem(dropout=0.3)
    assert fit(last, squares(x, y), epochs=3).best_epoch is None
    assert equal(last.state_dict(), seen[2])


def test_validate_must_return_a_number():
    net, x, y = problem()
    with pytest.raises(ValueError, match="validate returned NaN after epoch 0"):
        fit(net, squares(x, y), validate=lambda module: math.nan)


# ---- what is not finite ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run(bad):
    net, x, y = problem()
    weights = []

    def step(module, ids, epoch):
        weights.append(copy.deepcopy(module.state_dict()))
        wrong = torch.tensor(bad if len(weights) == 5 else 1.0)
        good = ((module(x[ids]) - y[ids]) ** 2).mean()
        return {"loss": good + wrong, "good": good, "wrong": wrong}

    with pytest.raises(FloatingPointError) as error:
        fit(net, step)
    assert equal(net.state_dict(), weights[4])
    ids = epoch_order(N, 0, 1)[6:12].tolist()
    assert str(error.value) == (
        f"the loss is not finite: {{'loss': {bad}, 'wrong': {bad}}} at step 5, epoch 1, loss, ids {ids}"
    )


def test_a_gradient_that_is_not_finite_stops_the_run():
    net, x, _ = problem()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(
        FloatingPointError, match=r"the gradient is not finite: its norm is (nan|inf) at step 1, epoch 0"
    ):
        fit(net, lambda module, ids, epoch: {"loss": (module(x[ids]) * 0).pow(0.5).sum()})
    assert equal(net.state_dict(), before)


def test_another_term_may_be_what_it_likes():
    net, x, y = problem()
    history = fit(net, lambda *a: squares(x, y)(*a) | {"odd": math.inf})
    assert history.column("odd") == [math.inf, math.inf]


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1; got 0"),
        ({"batch_size": 21}, "20 rows make no batch of 21"),
        ({"precision": "float16"}, "precision must be one of 'float32', 'bfloat16'"),
        ({"log_every": 0}, "log_every count steps"),
        ({"checkpoint_every": -1}, "checkpoint_every and log_every count steps"),
        ({"order": ("", "critic")}, r"order must name every optimiser.*\['', 'critic'\]"),
        ({"order": ()}, "order must name every optimiser"),
        ({"optimizers": {}}, "order must name every optimiser"),
        ({"schedulers": {"critic": None}}, r"schedulers has \['critic'\]"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    net, x, y = problem()
    with pytest.raises(ValueError, match=message):
        fit(net, squares(x, y), **arguments)


def test_weights_outside_of_the_module_are_refused():
    net, x, y = problem()
    with pytest.raises(ValueError, match="weights that are not in the module"):
        fit(net, squares(x, y), torch.optim.SGD([*net.parameters(), nn.Parameter(torch.ones(1))], lr=0.1))


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda *a: torch.ones(()), "dict of named scalars, 'loss' among them; got Tensor"),
        (lambda *a: {"total": torch.ones(())}, r"'loss' among them; got \['total'\]"),
        (lambda *a: {"loss": 1.0}, "one number with a gradient"),
        (lambda *a: {"loss": torch.ones(())}, "one number with a gradient"),
        (lambda module, *a: {"loss": module[0].weight}, r"\['loss'\] hold more than one number"),
        (lambda module, *a: {"loss": module[0].weight.sum(), "x": [1, 2]}, r"\['x'\] hold more than one number"),
        (lambda *a: {"loss": torch.ones((), requires_grad=True) * 2}, "none of the weights"),
    ],
)
def test_steps_that_give_no_loss(step, message):
    with pytest.raises(ValueError, match=message):
        fit(problem()[0], step)


# ---- the output folder ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"batch_size": 5}, "batch_size: 6 then, 5 now"),
        ({"seed": 1}, "seed: 0 then, 1 now"),
        ({"clip": 1.0}, "clip: null then, 1.0 now"),
        ({"drop_last": False}, "drop_last: true then, false now"),
        ({"precision": "bfloat16"}, 'precision: "float32" then, "bfloat16" now'),
        ({"validate": lambda module: 0.0}, "validate: false then, true now"),
        ({"log_every": 3}, "log_every: null then, 3 now"),
        ({"config": {"margin": 0.3}}, r"config\['margin'\]: 0.2 then, 0.3 now"),
        ({"epochs": 1}, "epochs: 6 steps are done, 3 are asked for"),
        ({"lr": 0.2}, r"optimizer\[0\].lr: 0.1 then, 0.2 now"),
        ({"optimizer": torch.optim.Adam}, 'optimizer: "SGD" then, "Adam" now'),
        ({"width": 7}, r"shape of 0.weight: \[6, 3\] then, \[7, 3\] now"),
    ],
)
def test_another_run_is_not_continued_but_may_be_overwritten(tmp_path, change, told):
    _, x, y = problem()

    def run(epochs=2, lr=0.1, optimizer=torch.optim.SGD, width=6, output=tmp_path, **arguments):
        with seeded(0):
            net = nn.Sequential(nn.Linear(3, width), nn.Linear(width, 1))
        arguments = {"config": {"margin": 0.2}, "output": output, **arguments}
        history = fit(net, squares(x, y), optimizer(net.parameters(), lr=lr), epochs=epochs, **arguments)
        return net.state_dict(), history

    first, _ = run()
    with pytest.raises(ValueError, match=told) as error:
        run(**change)
    assert "resume=False" in str(error.value)
    assert equal(run()[0], first)
    afresh, history = run(resume=False, **change)
    alone, expected = run(output=None, **change)
    assert equal(afresh, alone)
    assert history.rows == expected.rows


def test_an_overwritten_run_is_gone_before_the_new_one_has_a_checkpoint(tmp_path):
    net, x, y = problem()
    fit(net, squares(x, y), output=tmp_path)
    assert (tmp_path / "state.pt").exists()

    def stop(*arguments):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(net, stop, output=tmp_path, resume=False)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]
    assert (tmp_path / "log.csv").read_text() == "step,epoch\n"


def test_a_damaged_state_is_named(tmp_path):
    net, x, y = problem()
    fit(net, squares(x, y), output=tmp_path)
    (tmp_path / "state.pt").write_bytes((tmp_path / "state.pt").read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"state\.pt is damaged"):
        fit(net, squares(x, y), output=tmp_path)


# ---- precision, compile, GPU ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_step_runs_under_autocast(precision, dtype):
    net, x, _ = problem()
    seen = set()

    def step(module, ids, epoch):
        out = module(x[ids])
        seen.add(out.dtype)
        return {"loss": out.float().square().mean()}

    fit(net, step, precision=precision)
    assert seen == {dtype}
    assert all(p.dtype == torch.float32 for p in net.parameters())


def test_the_step_gets_the_compiled_module(monkeypatch):
    net, x, y = problem()
    expected, *_ = problem()
    real, compiled = torch.compile, []
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(real(module, backend="eager")) or compiled[0])

    def step(module, ids, epoch):
        assert module is compiled[0]
        return squares(x, y)(module, ids, epoch)

    fit(net, step, compile=True, epochs=1, validate=lambda module: float(module is net))
    fit(expected, squares(x, y), epochs=1)
    assert all(torch.allclose(a, b) for a, b in zip(net.parameters(), expected.parameters(), strict=True))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("compile", [False, True])
def test_on_a_gpu(tmp_path, precision, compile):
    net, x, y = problem()
    expected = copy.deepcopy(net)
    x, y = x.cuda(), y.cuda()
    arguments = {"device": "auto", "precision": precision, "compile": compile, "output": tmp_path}
    fit(net, squares(x, y), epochs=1, **arguments)
    history = fit(net, squares(x, y), epochs=3, **arguments)
    assert next(net.parameters()).is_cuda
    assert len(history.rows) == 3
    fit(expected, squares(x.cpu(), y.cpu()), epochs=3)
    for a, b in zip(net.parameters(), expected.parameters(), strict=True):
        assert torch.allclose(a.cpu(), b, atol=1e-3 if precision == "float32" else 5e-2)
