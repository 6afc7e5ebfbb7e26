"""The DALI graph on a CPU, and as it would be on a GPU: defined, walked, and held to the operators' own schemas."""

import re
from dataclasses import dataclass, replace

import pytest
from nvidia.dali import backend
from nvidia.dali.pipeline import Pipeline

from pipeline.decoders.base import StreamSpec
from pipeline.decoders.dali import ANCHOR, COLOR, GAIN, JPEG, PIXELS, SHAPE, define_graph

FRAME_BYTES = 456 * 256 * 3
RGB = StreamSpec(channels=3, num_planes=1, max_frames=128, frame_bytes=FRAME_BYTES, crop_size=224)
FLOW = StreamSpec(channels=1, num_planes=2, max_frames=256, frame_bytes=456 * 256, crop_size=224)
EVERYTHING = [
    RGB,
    replace(RGB, resize=True, color=True),
    replace(FLOW, resize=True, gain=True),
    replace(RGB, restarts=True),
    replace(FLOW, restarts=True, resize=True, gain=True),
]
IDS = ["rgb", "rgb-all", "flow-all", "rgb-restarts", "flow-restarts-all"]
DECODERS = {"decoders__ImageSlice", "decoders__Image"}


@dataclass(frozen=True)
class Node:
    """One operator of a defined graph."""

    operator: str
    device: str
    inputs: tuple[str, ...]  # names that end in _cpu or _gpu
    outputs: tuple[str, ...]
    arguments: dict[str, str]


def nodes(options: StreamSpec, device_id: int | None) -> list[Node]:
    pipe = define_graph(options, device_id=device_id, num_threads=2, prefetch=2)
    pipe._build_graph()
    return [parse(str(operator.spec)) for operator in pipe._ops]


def parse(spec: str) -> Node:
    """Read DALI's own printed form of an operator."""
    name = re.match(r"OpSpec for (\w+)", spec)
    sections = {key: block.split("\n") for key, block in re.findall(r"^  (\w+):\n((?:    .*\n)*)", spec + "\n", re.M)}
    lines = {key: [line.strip() for line in block if line.strip()] for key, block in sections.items()}
    arguments = dict(line.split(": ", 1) for line in lines["Arguments"])
    assert name is not None
    return Node(name[1], arguments["device"], tuple(lines["Inputs"]), tuple(lines["Outputs"]), arguments)


def on_device(name: str) -> str:
    return name.rsplit("_", 1)[1]


@pytest.fixture(params=EVERYTHING, ids=IDS)
def gpu_nodes(request: pytest.FixtureRequest) -> list[Node]:
    return nodes(request.param, device_id=0)


def test_every_operator_exists_for_the_device_it_is_asked_for(gpu_nodes: list[Node]) -> None:
    registered = {
        "cpu": set(backend.RegisteredCPUOps()),
        "gpu": set(backend.RegisteredGPUOps()),
        "mixed": set(backend.RegisteredMixedOps()),
    }
    assert [n.operator for n in gpu_nodes if n.operator not in registered[n.device]] == []


def test_inputs_stand_on_the_device_that_the_schema_demands(gpu_nodes: list[Node]) -> None:
    """CPU and mixed operators read the host; GPU operators read the device, but their argument inputs the host."""
    for node in gpu_nodes:
        schema = backend.GetSchema(node.operator)
        positional = (
            node.inputs[: max(1, schema.MinNumInput())] if node.operator != "decoders__ImageSlice" else node.inputs
        )
        for name in positional:
            assert on_device(name) == ("gpu" if node.device == "gpu" else "cpu"), node
        for name in node.inputs[len(positional) :]:
            assert on_device(name) == "cpu", node


def test_arguments_that_are_fed_may_be_tensors(gpu_nodes: list[Node]) -> None:
    fed = {"ColorTwist": COLOR, "BrightnessContrast": ("contrast",), "Slice": ("start", "shape")}
    for node in gpu_nodes:
        schema = backend.GetSchema(node.operator)
        assert all(schema.IsTensorArgument(argument) for argument in fed.get(node.operator, ()))


def test_every_given_argument_is_in_the_schema_and_not_deprecated(gpu_nodes: list[Node]) -> None:
    for node in gpu_nodes:
        schema = backend.GetSchema(node.operator)
        for argument in node.arguments.keys() - {"device", "preserve_name"}:  # the framework's own
            assert schema.HasArgument(argument), (node.operator, argument)
            assert not schema.IsDeprecatedArg(argument), (node.operator, argument)


def test_once_on_the_gpu_nothing_goes_back(gpu_nodes: list[Node]) -> None:
    devices = [n.device for n in gpu_nodes if n.operator != "ExternalSource"]
    assert devices[0] == "mixed"
    assert set(devices[1:]) <= {"gpu"}
    assert on_device(gpu_nodes[-1].outputs[0]) == "gpu"


def test_a_stream_has_one_decoder_with_memory_for_its_frames_alone(gpu_nodes: list[Node]) -> None:
    (decoder,) = (n for n in gpu_nodes if n.operator in DECODERS)
    gray = decoder.arguments["output_type"] == "2"
    expected = str(456 * 256 * (1 if gray else 3))
    assert decoder.arguments["device_memory_padding"] == expected
    assert decoder.arguments["host_memory_padding"] == expected


@pytest.mark.parametrize("options", EVERYTHING[:3], ids=IDS[:3])
def test_cpu_and_gpu_graphs_are_the_same_operators(options: StreamSpec) -> None:
    assert [n.operator for n in nodes(options, None)] == [n.operator for n in nodes(options, 0)]


@pytest.mark.parametrize("options", EVERYTHING, ids=IDS)
def test_a_graph_for_the_cpu_has_no_operator_elsewhere(options: StreamSpec) -> None:
    assert {n.device for n in nodes(options, None)} == {"cpu"}


def test_an_augmentation_that_is_off_costs_no_operator() -> None:
    assert [n.operator for n in nodes(RGB, None) if n.operator != "ExternalSource"] == ["decoders__ImageSlice"]


def test_a_graph_asks_for_the_inputs_that_its_options_need_and_no_others() -> None:
    def asked(options: StreamSpec) -> set[str]:
        return {n.outputs[0].removesuffix("_cpu") for n in nodes(options, None) if n.operator == "ExternalSource"}

    assert asked(RGB) == {JPEG, ANCHOR, SHAPE}
    assert asked(EVERYTHING[1]) == {JPEG, ANCHOR, SHAPE, *COLOR}
    assert asked(EVERYTHING[2]) == {JPEG, ANCHOR, SHAPE, GAIN}
    assert asked(EVERYTHING[3]) == {JPEG, ANCHOR, SHAPE}
    assert asked(replace(EVERYTHING[2], raw=True)) == {PIXELS, GAIN}


def test_a_gpu_decodes_what_was_cut_out_whole_and_a_cpu_its_window() -> None:
    on_gpu, on_cpu = (
        [n.operator for n in nodes(EVERYTHING[3], device_id) if n.operator != "ExternalSource"]
        for device_id in (0, None)
    )
    assert on_gpu == ["decoders__Image", "Slice"]
    assert on_cpu == ["decoders__ImageSlice"]


def test_raw_frames_take_the_same_graph_without_the_decoder() -> None:
    of_jpegs, of_pixels = (
        [n.operator for n in nodes(replace(EVERYTHING[1], raw=raw), None) if n.operator != "ExternalSource"]
        for raw in (False, True)
    )
    assert of_jpegs == ["decoders__ImageSlice", *of_pixels]


def test_a_graph_for_the_cpu_can_be_built_without_a_gpu() -> None:
    pipe = define_graph(RGB, device_id=None, num_threads=1, prefetch=1)
    assert isinstance(pipe, Pipeline)
    pipe.build()
