"""What each launcher gets, looked at with the tools that will read it."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, get_args

import a_recipe
import kubernetes.client
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer import assets
from trainer.config.launch import Kind
from trainer.errors import RecipeError
from trainer.launch.job import Job, make
from trainer.launch.rendering import problems, render
from trainer.launch.targets import TARGETS

SHELL = [kind for kind, target in TARGETS.items() if target.syntax == "shell"]
RICH: dict[str, Any] = {
    "nodes": 3,
    "processes": 8,
    "exclude": ["bad1", "bad2"],
    "time_limit": "1-12:00:00",
    "environment": {"NCCL_DEBUG": "INFO", "PLAIN": "it's $(data)"},
    "secrets": {"HF_TOKEN": "/run/secrets/hf"},
    "address": "10.0.0.1",
    "hosts": "/etc/hosts.txt",
    "account": "team-7",
    "modules": ["cuda/13.0"],
    "container": {"image": "registry/shardtune:1", "runtime": "docker"},
    "mounts": [{"source": "data", "target": "/data", "read_only": True}],
    "slurm": {"partition": "gpu", "qos": "high", "constraint": "h100", "cpus": 96, "memory": "0"},
    "kubernetes": {"namespace": "team", "cpus": "64", "memory": "900Gi"},
    "skypilot": {"accelerators": "H100", "infra": "aws/us-east-1", "spot": True},
    "deepspeed": {"over": "ssh"},
}


def job(kind: str, *, settings: tuple[str, ...] = (), path: str = "recipes/my.yaml", **launch: Any) -> Job:
    launch = {"nodes": 1, "processes": 2, **launch, "kind": kind}
    recipe = a_recipe.recipe(launch={key: held for key, held in launch.items() if key not in TARGETS[kind].no_use})
    return make(recipe, Path(path), settings, elsewhere=TARGETS[kind].elsewhere)


def text(kind: str, **launch: Any) -> str:
    return render(job(kind, **launch), TARGETS[kind])


def test_every_kind_has_a_target_and_a_template() -> None:
    assert set(TARGETS) == set(get_args(Kind))
    for kind, target in TARGETS.items():
        assert Path(target.template).stem == kind and (assets.folder("launchers") / target.template).is_file()


@pytest.mark.parametrize("kind", TARGETS)
def test_nodes_and_processes_are_enough(kind: str) -> None:
    made = job(kind, nodes=4, processes=8)

    written = render(made, TARGETS[kind])

    assert written.splitlines()[0 if TARGETS[kind].syntax == "yaml" else 1] == f"# shardtune launch RECIPE --to {kind}"
    assert sorted(set(re.findall(r"FILL-IN:([a-z_.]+)", written))) == sorted(made.open)
    expected = {
        "local": ["launch.address"],
        "torchrun": ["launch.address"],
        "deepspeed": ["launch.hosts"],
        "slurm": [],
        "mpi": ["launch.address", "launch.hosts"],
        "kubernetes": ["launch.container.image"],
        "ray": [],
        "skypilot": ["launch.container.image", "launch.skypilot.accelerators"],
    }
    assert sorted(made.open) == expected[kind]


@pytest.mark.parametrize("launch", [{}, {"nodes": 2}, RICH], ids=["least", "two nodes", "all keys"])
@pytest.mark.parametrize("kind", SHELL)
def test_scripts_are_sound(kind: str, launch: dict[str, Any], tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text(text(kind, **launch))

    subprocess.run(["bash", "-n", script], check=True)
    checker = Path(sys.executable).parent / "shellcheck"
    # SC1091: /etc/profile is the site's; SC2016: what looks like an expression of the shell is meant as text.
    found = subprocess.run(
        [checker, "--shell=bash", "--exclude=SC1091,SC2016", script], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""


@pytest.mark.parametrize(
    "launch",
    [
        {"kind": "torchrun", "nodes": {"min": 2, "max": 4}, "torchrun": {"restarts": 5}},
        {"kind": "torchrun", "nodes": 2, "torchrun": {"rendezvous": "static"}},
        {"kind": "deepspeed", "nodes": 2, "hosts": "hosts"},
        {"kind": "slurm", "nodes": 2, "container": {"image": "a b", "runtime": "enroot"}},
        {"kind": "slurm", "nodes": 2, "container": {"image": "x.sif", "runtime": "apptainer"}, "gpus": 0},
        {"kind": "slurm", "slurm": {"array": [{"optimizer.lr": 1e-4}, {"optimizer.lr": 1e-3}], "requeue": False}},
    ],
    ids=str,
)
def test_scripts_of_other_ways_are_sound(launch: dict[str, Any], tmp_path: Path) -> None:
    launch = dict(launch)
    test_scripts_are_sound(launch.pop("kind"), launch, tmp_path)


def test_torchrun_comes_and_goes_or_is_numbered() -> None:
    elastic = text("torchrun", nodes={"min": 2, "max": 4}, torchrun={"restarts": 5}, address="10.0.0.1")
    assert "--nnodes=2:4 --nproc-per-node=2 --max-restarts=5" in elastic
    assert "--rdzv-endpoint=10.0.0.1:29400" in elastic
    static = text("torchrun", nodes=2, torchrun={"rendezvous": "static"}, address="10.0.0.1")
    assert '--rdzv-backend=static --node-rank="$NODE_RANK" --master-addr=10.0.0.1 --master-port=29400' in static


def test_options_of_slurm_are_slurms() -> None:
    known = set((Path(__file__).parent / "sbatch_options.txt").read_text().splitlines()[1:])

    written = text("slurm", **RICH)

    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", written, re.MULTILINE))
    assert options.keys() <= known
    assert options == {
        "job-name": "runs-quickstart",
        "nodes": "3",
        "ntasks-per-node": "1",
        "gpus-per-node": "8",
        "cpus-per-task": "96",
        "account": "team-7",
        "partition": "gpu",
        "qos": "high",
        "constraint": "h100",
        "mem": "0",
        "exclude": "bad1,bad2",
        "time": "1-12:00:00",
        "output": "runs-quickstart-%j.log",
        "open-mode": "append",
        "requeue": "",
        "signal": "TERM@120",
    }


def test_an_array_has_a_folder_and_settings_for_each_run() -> None:
    written = text("slurm", slurm={"array": [{"optimizer.lr": 1e-4}, {"optimizer.lr": 1e-3, "train.seed": 1}]})

    assert "#SBATCH --array=0-1" in written
    first, second = (f"output=runs/quickstart/{number}" for number in (0, 1))
    assert f"  0) {first}; settings=(launch.kind=slurm optimizer.lr=0.0001 {first}) ;;" in written
    assert f"  1) {second}; settings=(launch.kind=slurm optimizer.lr=0.001 train.seed=1 {second}) ;;" in written


@pytest.mark.parametrize("kind", [kind for kind in SHELL if kind not in ("slurm", "ray")])
def test_other_launchers_run_the_recipe_itself_and_no_run_of_an_array(kind: str) -> None:
    assert job(kind, slurm={"array": [{"optimizer.lr": 1e-4}, {"optimizer.lr": 1e-3}]}).output == "runs/quickstart"


def test_a_container_of_this_machine_needs_no_number_of_processes() -> None:
    recipe = a_recipe.recipe(launch={"container": {"image": "image:1"}})
    made = make(recipe, Path("r.yaml"), (), elsewhere=False)

    assert "image:1" in render(made, TARGETS["local"])


def test_a_trainjob_has_its_time_limit_and_its_folder_in_its_command() -> None:
    launch = {"time_limit": 60, "folder": "/data", "kubernetes": {"job": "trainjob"}}
    _, made = yaml.safe_load_all(text("kubernetes", **launch))

    command = made["spec"]["trainer"]["command"]
    assert command[:3] == ["env", "--chdir=/data", "timeout"] and "60" in command
    assert command[-4:] == ["torchrun", "-m", "trainer.worker", "/etc/shardtune/recipe.yaml"]


@pytest.mark.parametrize("runtime", ["docker", "apptainer", "enroot"])
def test_a_container_sees_its_mounts_and_names_of_variables_alone(runtime: str) -> None:
    written = text("slurm", **{**RICH, "container": {"image": "image:1", "runtime": runtime}})

    command = next(line for line in written.splitlines() if "-m trainer train" in line)
    assert "data:/data:ro" in written and "image:1" in written
    assert "/run/secrets/hf" not in command
    assert {"docker": "--env HF_TOKEN", "apptainer": "--nv", "enroot": "python3"}[runtime] in command


def wrong_keys(model: str, content: Any) -> list[str]:
    """Keys that the Kubernetes client's own models do not know, and values of a wrong kind."""
    if model.startswith("List["):
        inner = model[5:-1]
        return (
            [found for item in content for found in wrong_keys(inner, item)] if isinstance(content, list) else [model]
        )
    if model.startswith("Dict["):
        return [] if isinstance(content, dict) else [model]
    plain = {"str": (str,), "int": (int,), "bool": (bool,), "object": (object,), "datetime": (str,)}
    if model in plain:
        return [] if isinstance(content, plain[model]) else [f"{model}: {content!r}"]
    kind = getattr(kubernetes.client, model)
    names = {written: field for field, written in kind.attribute_map.items()}
    found = [f"{model}.{key}" for key in content if key not in names]
    for key in content.keys() & names.keys():
        found += [f"{model}.{key}: {one}" for one in wrong_keys(kind.openapi_types[names[key]], content[key])]
    made = kind(**{names[key]: content[key] for key in content if key in names})  # raises where a needed key is missing
    assert made is not None
    return found


MODELS = {"ConfigMap": "V1ConfigMap", "Service": "V1Service", "Job": "V1Job"}


@pytest.mark.parametrize("launch", [{}, RICH], ids=["least", "all keys"])
def test_manifests_are_what_kubernetes_takes(launch: dict[str, Any]) -> None:
    documents = list(yaml.safe_load_all(text("kubernetes", **launch)))

    assert [document["kind"] for document in documents] == ["ConfigMap", "Service", "Job"]
    assert [wrong_keys(MODELS[document["kind"]], document) for document in documents] == [[], [], []]
    config, service, batch = documents
    assert yaml.safe_load(config["data"]["recipe.yaml"])["launch"]["kind"] == "kubernetes"
    pod = batch["spec"]["template"]["spec"]
    # The names that pods of an indexed Job have: job-index.subdomain.
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": batch["metadata"]["name"]}
    name = batch["metadata"]["name"]
    assert pod["containers"][0]["command"][-4:] == ["--node", "JOB_COMPLETION_INDEX", "--address", f"{name}-0.{name}"]
    assert {one["name"] for one in pod["volumes"]} == {one["name"] for one in pod["containers"][0]["volumeMounts"]}


def test_kubernetes_gets_secrets_by_reference_and_leaves_nodes_out() -> None:
    *_, batch = yaml.safe_load_all(text("kubernetes", **RICH))

    pod = batch["spec"]["template"]["spec"]
    (secret,) = [one for one in pod["containers"][0]["env"] if one["name"] == "HF_TOKEN"]
    assert secret == {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "shardtune", "key": "HF_TOKEN"}}}
    (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"][0]["values"] == ["bad1", "bad2"]
    assert pod["containers"][0]["resources"]["limits"] == {"cpu": "64", "memory": "900Gi", "nvidia.com/gpu": "8"}
    assert batch["spec"]["activeDeadlineSeconds"] == 36 * 3600


@pytest.mark.parametrize(("job_kind", "kind"), [("pytorchjob", "PyTorchJob"), ("trainjob", "TrainJob")])
def test_kubeflows_jobs_hold_a_sound_pod(job_kind: str, kind: str) -> None:
    launch = {**RICH, "kubernetes": {**RICH["kubernetes"], "job": job_kind}}
    _, made = yaml.safe_load_all(text("kubernetes", **launch))

    assert made["kind"] == kind
    if job_kind == "pytorchjob":
        pod = made["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]
        assert wrong_keys("V1PodSpec", pod) == []
        assert pod["containers"][0]["name"] == "pytorch"  # the operator looks for it
        assert made["spec"]["elasticPolicy"]["maxReplicas"] == made["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"]
    else:
        (override,) = made["spec"]["podTemplateOverrides"]
        assert made["spec"]["trainer"]["numNodes"] == 3 and made["spec"]["trainer"]["numProcPerNode"] == 8
        assert wrong_keys("V1EnvVar", made["spec"]["trainer"]["env"][0]) == []
        assert [found for one in override["spec"]["volumes"] for found in wrong_keys("V1Volume", one)] == []


def test_a_range_of_nodes_goes_to_kubeflow() -> None:
    _, made = yaml.safe_load_all(text("kubernetes", nodes={"min": 2, "max": 5}, kubernetes={"job": "pytorchjob"}))

    policy = made["spec"]["elasticPolicy"]
    assert (policy["minReplicas"], policy["maxReplicas"]) == (2, 5)


def test_skypilot_gets_one_script_and_no_value_of_a_secret(tmp_path: Path) -> None:
    made = yaml.safe_load(
        text("skypilot", **{**RICH, "secrets": {"HF_TOKEN": None, "KEY": "/run/key"}, "address": None})
    )

    assert made["secrets"] == {"HF_TOKEN": None}
    assert made["resources"] == {
        "infra": "aws/us-east-1",
        "accelerators": "H100:8",
        "image_id": "docker:registry/shardtune:1",
        "use_spot": True,
    }
    assert made["envs"] == RICH["environment"] and made["num_nodes"] == 3
    (tmp_path / "run.sh").write_text(made["run"])
    subprocess.run(["bash", "-n", tmp_path / "run.sh"], check=True)


RECORD = """#!/bin/sh
{ printf '%s\\0' "$@"; env -0 | grep -z '^PLAIN='; } >> "$RECORD"
"""
PASS_ON = '#!/bin/sh\nwhile [ "${1#-}" != "$1" ] || [ "$1" = TERM ]; do shift; done\nexec "$@"\n'
NASTY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12) | st.sampled_from(
    ["$(touch pwned)", "`touch pwned`", "'; touch pwned; '", "a\nb\nEOF\n", '"$HOME"', "\\", "ä\U0001f600", "#", "!x"]
)


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that writes down its words, and schedulers' programs that run what they are given."""
    folder = tmp_path_factory.mktemp("bin")
    for name, content in {"record": RECORD, "srun": PASS_ON, "scontrol": "#!/bin/sh\necho node1\n"}.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize("kind", ["local", "torchrun", "slurm"])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=NASTY, path=NASTY.filter(bool))
def test_values_run_as_data(kind: str, value: str, path: str, recorder: Path, tmp_path: Path) -> None:
    word = f"data.train.0.path={value}"
    made = job(kind, settings=(word,), path=path, environment={"PLAIN": value}, folder=str(tmp_path))
    made = Job(made.launch, made.recipe, made.content, made.parts, made.folder, str(recorder / "record"))
    record = tmp_path / "record"
    record.unlink(missing_ok=True)
    environment = {"PATH": f"{recorder}:{os.environ['PATH']}", "RECORD": str(record), "SLURM_JOB_ID": "1"}

    subprocess.run(
        ["bash", "-c", render(made, TARGETS[kind])],
        env={**environment, "SLURM_JOB_NODELIST": "n"},
        timeout=60,
        check=True,
    )

    words = record.read_bytes().decode().split("\0")
    assert word in words and made.recipe in words
    assert f"PLAIN={value}" in words
    assert not (tmp_path / "pwned").exists()


def test_deepspeeds_own_way_over_pdsh_takes_plain_words_alone() -> None:
    launch = {"nodes": 2, "processes": 1, "hosts": "hosts", "environment": {"A": "b c"}, "secrets": {"S": "/f"}}
    with pytest.raises(RecipeError) as caught:
        render(job("deepspeed", settings=("data.train.0.path=a b",), path="r.yaml", **launch), TARGETS["deepspeed"])

    told = [str(problem) for problem in caught.value.problems]
    assert any("a setting holds 'data.train.0.path=a b', which DeepSpeed does not quote" in one for one in told)
    assert any("launch.environment holds 'A=b c'" in one for one in told)
    assert any("launch.secrets: would stand in the process lists of the hosts" in one for one in told)


def test_a_secret_of_the_environment_does_not_go_over_ssh() -> None:
    with pytest.raises(RecipeError, match=r"launch\.secrets\.S: is not handed on by ssh; name a file"):
        text("deepspeed", nodes=2, hosts="h", deepspeed={"over": "ssh"}, secrets={"S": None})


def test_a_site_brings_its_own_template(tmp_path: Path) -> None:
    own = tmp_path / "site.sbatch"
    own.write_text('{% include "_begin.sh" %}\nsite {{ job.settings }} {{ launch.account }}\n')

    written = render(job("slurm", settings=("a=b c",), account="it's", template=str(own)), TARGETS["slurm"])

    assert written.splitlines()[-1] == "site 'a=b c' launch.kind=slurm 'it'\"'\"'s'"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{% if %}", r"site\.sh:1: Expected an expression"),
        ("a\n{{ launch.acount }}", r"site\.sh:2: .*has no attribute 'acount'"),
        ("{{ launch.slurm }}", r"launch: .* is no word of a shell; name another"),
        ("a\nb\n{{ job.processes + job.name }}", r"site\.sh:3: unsupported operand type"),
        ("{% include 'none' %}", r"launch\.template: .*site\.sh cannot be read: .*none"),
    ],
)
def test_a_wrong_template_is_told_with_its_line(tmp_path: Path, content: str, told: str) -> None:
    own = tmp_path / "site.sh"
    own.write_text(content)
    with pytest.raises(RecipeError, match=told):
        text("slurm", template=str(own))


def test_a_template_that_is_not_there_is_told() -> None:
    with pytest.raises(RecipeError, match=r"launch\.template: there is no file none\.sh"):
        text("slurm", template="none.sh")


def test_keys_that_say_nothing_are_refused_with_the_reason() -> None:
    recipe = a_recipe.recipe(launch={"kind": "kubernetes", "processes": 1, "modules": ["a"], "hosts": "h"})
    made = make(recipe, Path("r.yaml"), (), elsewhere=True)

    assert [str(problem) for problem in problems(made, TARGETS["kubernetes"])] == [
        "launch.hosts: says nothing with launch.kind kubernetes: the cluster chooses the nodes; leave it out",
        "launch.modules: says nothing with launch.kind kubernetes: the image holds what is needed; leave it out",
    ]
    recipe = a_recipe.recipe(launch={"kind": "slurm", "processes": 1, "mounts": [{"source": "a", "target": "/a"}]})
    (problem,) = problems(make(recipe, Path("r.yaml"), (), elsewhere=False), TARGETS["slurm"])
    assert str(problem) == "launch.mounts: are seen in a container; set launch.container, or leave them out"


def test_a_thousand_nodes_are_rendered_at_once_and_without_torch(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(a_recipe.content(model={"name": "some/model"})))
    words = ["launch", "recipe.yaml", "--to", "slurm", "--print", "launch.nodes=1024", "launch.processes=8"]
    code = f"""
import sys
sys.argv[1:] = {words!r}
from trainer.cli import main
try: main()
finally: print('torch' in sys.modules)
"""

    seconds = []
    for _ in range(3):
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        seconds.append(time.monotonic() - began)

    assert "#SBATCH --nodes=1024" in done.stdout and done.stdout.endswith("False\n")
    assert min(seconds) < 2
