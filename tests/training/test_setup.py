"""What a run asks of torch and of its devices."""

import pytest
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DynamoBackend

from esdcodec.model_codec import quantizer
from esdcodec.training import setup
from tests.training.runs import SMALL, make_trainer, train


@pytest.fixture(autouse=True)
def as_before():
    flags = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = flags[:2]
    torch.set_float32_matmul_precision(flags[2])


@pytest.mark.parametrize("tf32", [True, False])
def test_the_nearest_entries_are_found_in_float32_whatever_tf32_says(tf32, shards, tmp_path, monkeypatch):
    seen, nearest = [], quantizer.nearest

    def watched(*arguments):
        seen.append((torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32))
        assert not torch.is_autocast_enabled("cpu")
        return nearest(*arguments)

    torch.set_float32_matmul_precision("high")  # as something before may have left it
    monkeypatch.setattr(quantizer, "nearest", watched)
    trainer = make_trainer(f"machine.shards={shards}", f"trainer.output_dir={tmp_path}", SMALL, f"trainer.tf32={tf32}")
    trainer.take_step(trainer.data.batches(0))
    assert set(seen) == {("highest", False)}
    assert torch.backends.cudnn.allow_tf32 == tf32  # of the convolutions
    setup.make_accelerator(trainer.settings, tf32_products=True)  # of a network that has no codebooks
    assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")


def test_convolutions_of_one_shape_are_tried_out(shards, tmp_path):
    torch.backends.cudnn.benchmark = False
    make_trainer(f"machine.shards={shards}", f"trainer.output_dir={tmp_path}", SMALL)
    assert torch.backends.cudnn.benchmark


def test_weights_learn_by_one_kernel(shards, tmp_path):
    trainer = make_trainer(f"machine.shards={shards}", f"trainer.output_dir={tmp_path}", SMALL)
    assert all(group["fused"] for learner in trainer.task.learners for group in learner.optimizer.param_groups)


def test_gradients_of_ranks_are_parts_of_what_is_sent_and_no_buffer_is(shards, tmp_path, monkeypatch):
    given = {}
    accelerator = setup.Accelerator

    def watched(**options):
        given.update({type(each).__name__: each for each in options["kwargs_handlers"]})
        return accelerator(**options)

    monkeypatch.setattr(setup, "Accelerator", watched)
    make_trainer(f"machine.shards={shards}", f"trainer.output_dir={tmp_path}", SMALL)
    parallel = given["DistributedDataParallelKwargs"]
    assert parallel.gradient_as_bucket_view
    assert not parallel.broadcast_buffers


@pytest.fixture
def first_accelerator():
    """Accelerate takes its settings of compilation from the first one of a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.slow
@pytest.mark.usefixtures("first_accelerator")
def test_a_compiled_run_compiles_no_more_once_it_has_seen_everything(shards, tmp_path, monkeypatch):
    """Semantic-only steps, validation, samples and checkpoints are all in the first twenty."""
    from torch._dynamo.utils import counters

    counters.clear()
    monkeypatch.setattr(torch._dynamo.config, "fail_on_recompile_limit_hit", True)  # it would go on uncompiled
    graphs, log = [], setup.Trainer._log

    def watched(trainer):
        graphs.append(counters["stats"]["unique_graphs"])
        log(trainer)

    monkeypatch.setattr(setup.Trainer, "_log", watched)
    trainer = train(
        f"machine.shards={shards}", f"trainer.output_dir={tmp_path}", SMALL, "trainer.compile=eager",
        "trainer.max_steps=60", "trainer.log_every=20", "trainer.semantic_only_probability=0.3",
        *(f"trainer.{name}_every=20" for name in ("validate", "sample", "checkpoint")),
    )  # fmt: skip
    assert trainer.accelerator.state.dynamo_plugin.backend == DynamoBackend.EAGER
    assert graphs[0] > 0
    assert graphs == graphs[:1] * 3
