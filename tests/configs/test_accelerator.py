"""DeepSpeed's accelerator is named only where there is no GPU."""

from configs.accelerator import name_accelerator


def test_without_a_gpus_device_file_it_is_the_cpu_and_a_chosen_one_is_kept(tmp_path):
    device = tmp_path / "nvidia0"
    environment: dict[str, str] = {}
    name_accelerator(environment, [str(device)])
    assert environment == {"DS_ACCELERATOR": "cpu"}
    chosen = {"DS_ACCELERATOR": "xpu"}
    name_accelerator(chosen, [str(device)])
    assert chosen == {"DS_ACCELERATOR": "xpu"}
    device.touch()
    with_gpu: dict[str, str] = {}
    name_accelerator(with_gpu, [str(tmp_path / "kfd"), str(device)])
    assert with_gpu == {}
