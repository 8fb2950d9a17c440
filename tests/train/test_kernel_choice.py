"""`model.kernels`: which kernels a device gets, and what is missing where one cannot run."""

import pytest

from configs.errors import ConfigError
from configs.model import ModelConfig
from train import kernel_choice
from train.kernel_choice import KernelChoice, choose_kernels, fit_to_decoder, triton_problem


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with Triton, Liger, compilers and Python's headers; parts of it can be taken away."""
    installed, programs = {"triton", "liger_kernel"}, {"gcc", "g++"}
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(kernel_choice, "find_spec", lambda name: name in installed or None)
    monkeypatch.setattr(kernel_choice.shutil, "which", lambda name: name if name in programs else None)
    monkeypatch.setattr(kernel_choice.sysconfig, "get_path", lambda *given: str(tmp_path))
    for name in ("CC", "CXX", "TRITON_INTERPRET"):
        monkeypatch.delenv(name, raising=False)

    def take_away(*parts):
        installed.difference_update(parts)
        programs.difference_update(parts)
        if "Python.h" in parts:
            (tmp_path / "Python.h").unlink()

    return take_away


@pytest.mark.parametrize(
    ("device", "zero_stage", "absent", "expected", "reason"),
    [
        ("cuda", 1, (), "compile", "auto: a GPU with Triton, ZeRO 1"),
        ("cuda", 3, (), "liger", "ZeRO 3"),
        ("cuda", 3, ("liger_kernel",), "none", "pip install 'vlm-classify[kernels]'"),
        ("cuda", 1, ("triton",), "none", "Triton is not installed"),
        ("cuda", 1, ("gcc",), "none", "no C compiler"),
        ("cuda", 1, ("Python.h",), "none", "python3-dev"),
        ("cpu", 1, (), "none", "auto: no GPU"),
    ],
)
def test_auto_takes_what_runs_on_the_device_and_says_why(machine, device, zero_stage, absent, expected, reason):
    machine(*absent)
    choice = choose_kernels("auto", device, zero_stage)
    assert choice.name == expected
    assert reason in choice.reason


@pytest.mark.parametrize(
    ("setting", "device", "zero_stage", "absent", "message"),
    [
        ("compile", "cuda", 3, (), "deepspeed.zero_stage 3; set kernels: none or liger"),
        ("compile", "cuda", 1, ("triton",), "pip install triton"),
        ("compile", "cpu", 0, ("g++",), "install g++"),
        ("liger", "cuda", 1, ("liger_kernel",), "pip install 'vlm-classify[kernels]'"),
        ("liger", "cuda", 1, ("gcc",), "no C compiler"),
        ("liger", "cpu", 1, (), "needs a GPU"),
    ],
)
def test_kernels_that_cannot_run_are_refused_with_what_is_missing(
    machine, setting, device, zero_stage, absent, message
):
    machine(*absent)
    with pytest.raises(ConfigError) as refused:
        choose_kernels(setting, device, zero_stage)
    assert message in str(refused.value)
    assert f"model.kernels is {setting}" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("setting", "device", "zero_stage"),
    [("none", "cuda", 3), ("none", "cpu", 0), ("compile", "cpu", 2), ("compile", "cuda", 2), ("liger", "cuda", 3)],
)
def test_a_set_choice_is_kept(machine, setting, device, zero_stage):
    assert choose_kernels(setting, device, zero_stage) == KernelChoice(setting, "set in model.kernels")


def test_a_compiler_named_by_the_environment_is_enough(machine, monkeypatch):
    machine("gcc", "g++")
    assert triton_problem()
    monkeypatch.setenv("CC", "/opt/cc")
    monkeypatch.setenv("CXX", "/opt/c++")
    assert triton_problem() is None
    assert choose_kernels("compile", "cpu", 0).name == "compile"


def test_tritons_interpreter_runs_ligers_kernels_on_a_cpu(machine, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert choose_kernels("liger", "cpu", 1).name == "liger"


def test_a_deterministic_run_compiles_only_where_that_is_set(machine):
    assert choose_kernels("auto", "cuda", 1, deterministic=True).name == "liger"
    assert choose_kernels("liger", "cuda", 1, deterministic=True).name == "liger"
    assert choose_kernels("compile", "cuda", 1, deterministic=True).name == "compile"
    machine("liger_kernel")
    choice = choose_kernels("auto", "cuda", 1, deterministic=True)
    assert choice.name == "none"
    assert "train.deterministic, where auto compiles no layers" in choice.reason


def settings(kernels, **changes):
    return ModelConfig(base="", kernels=kernels, **changes)


def test_ligers_kernels_are_refused_where_transformers_runs_the_layers(training_setup):
    from train.models.registry import trainable_family_of

    family = trainable_family_of(training_setup.root / "base")
    liger = KernelChoice("liger", "auto: ZeRO 3")
    assert fit_to_decoder(liger, settings("liger"), family, "sdpa") == liger
    with pytest.raises(ConfigError, match=r"not used with model\.skip_unneeded_compute: false: transformers runs"):
        fit_to_decoder(liger, settings("liger", skip_unneeded_compute=False), family, "sdpa")
    with pytest.raises(ConfigError, match=r"not used with model\.attention: eager: .*set kernels: compile or none"):
        fit_to_decoder(liger, settings("liger"), family, "eager")
    given_up = fit_to_decoder(liger, settings("auto"), family, "eager")
    assert given_up.name == "none"
    assert given_up.reason == "auto: ZeRO 3, and Liger's kernels are not used with model.attention: eager"


def test_a_deterministic_run_with_compiled_layers_is_refused_where_transformers_runs_them(training_setup):
    from train.models.registry import trainable_family_of

    family, compiled = trainable_family_of(training_setup.root / "base"), KernelChoice("compile", "set")
    assert fit_to_decoder(compiled, settings("compile"), family, "sdpa", deterministic=True) == compiled
    assert fit_to_decoder(compiled, settings("compile"), family, "eager") == compiled
    with pytest.raises(ConfigError, match=r"with model\.attention: eager transformers runs .*; set kernels: none"):
        fit_to_decoder(compiled, settings("compile"), family, "eager", deterministic=True)
