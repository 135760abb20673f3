from trainer.bench import peak


def test_an_unlisted_device_has_no_peak() -> None:
    assert peak.known("NVIDIA Something", "bfloat16") is None
    assert peak.known("NVIDIA L4", "float64") is None


def test_a_listed_device_names_its_source() -> None:
    found = peak.known("NVIDIA L4", "bfloat16")

    assert found is not None
    assert (found.flops_per_second, found.source) == (121e12, "data sheet of NVIDIA L4, dense bfloat16")


def test_a_processor_is_measured_by_a_real_product() -> None:
    found = peak.measured("float32", 1)

    assert found is not None
    assert 1e9 < found.flops_per_second < 1e15
    assert found.source == "measured: float32 products of 2048 x 2048 on 1 thread"


def test_a_precision_that_is_none_has_no_peak() -> None:
    assert peak.measured("float7", 1) is None
