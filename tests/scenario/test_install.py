"""What `meson install` puts where, and that it runs from there. (release only)"""

import glob
import gzip
import os
import re
import shutil
import subprocess
import tempfile

import harness

PREFIX = "usr/local"
PROGRAMS = ("verbacast", "verbacast-stt", "verbacast-sink")
NEEDED = {"verbacast-sink": {"KAFKA_BROKERS": "127.0.0.1:9", "DATABASE_URL": "sqlite:sink.db"}}  # without which it does not run
UNITS = f"{PREFIX}/lib/systemd/system"
DOC = f"{PREFIX}/share/doc/verbacast"
HARDENED = {"StartLimitIntervalSec=0", "RestartPreventExitStatus=2", "DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes",
            "PrivateDevices=yes", "ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectKernelLogs=yes",
            "ProtectControlGroups=yes", "RestrictNamespaces=yes", "RestrictSUIDSGID=yes", "LockPersonality=yes",
            "MemoryDenyWriteExecute=yes", "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX", "CapabilityBoundingSet=",
            "SystemCallFilter=@system-service", "SystemCallFilter=~@privileged", "UMask=0077"}


class Installed:
    """A folder that `meson install` has filled."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="vc-install-")
        run = subprocess.run(["meson", "install", "-C", harness.BUILD, "--no-rebuild", "--destdir", self.folder],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert run.returncode == 0, run.stdout[-3000:]
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def program(self, name):
        return self.path(PREFIX, "bin", name)

    def libraries(self):
        return os.path.dirname(next(iter(glob.glob(self.path(PREFIX, "lib*/**/libonnxruntime.so"), recursive=True)), ""))


def check_config(installed, name, settings):
    """What it says that it would run with these options and no others."""
    environment = {**{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}, **NEEDED.get(name, {}),
                   "LD_LIBRARY_PATH": installed.libraries(), **settings}
    done = subprocess.run([installed.program(name), "--check-config"], env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, (name, done.stdout)
    return done.stdout


def node_settings():
    return {"HTTP_LISTEN": "127.0.0.1:0", "ADMIN_LISTEN": "127.0.0.1:0", "RTMP_LISTEN": "127.0.0.1:0",
            "STT_URL": "http://127.0.0.1:9/v2/live", "DRAIN_DELAY_MS": 0}


def test_files_are_where_a_distribution_expects_them():
    with Installed() as installed:
        for name in PROGRAMS:
            assert os.access(installed.program(name), os.X_OK), name
            with open(installed.path(UNITS, f"{name}.service"), encoding="utf-8") as file:
                unit = file.read()
            assert f"ExecStart=/{PREFIX}/bin/{name}\n" in unit and "@" not in re.sub(r"@/run\S*|@system\S*|@priv\S*", "", unit)
            pages = glob.glob(installed.path(PREFIX, "share/man/man8", f"{name}.8*"))
            assert len(pages) == 1, pages
            with (gzip.open if pages[0].endswith(".gz") else open)(pages[0], "rb") as file:
                assert b".TH" in file.read(), pages
        pages = set(os.listdir(installed.path(PREFIX, "share/verbacast/pages")))
        assert pages == set(os.listdir(os.path.join(harness.ROOT, "src", "control", "pages"))), pages
        strange = [name for name in os.listdir(installed.path(PREFIX, "bin")) if not name.startswith("verbacast")]
        assert not strange, strange


def test_nothing_points_into_the_build_folder():
    with Installed() as installed:
        for name in PROGRAMS:
            read = subprocess.run(["readelf", "-d", installed.program(name)], stdout=subprocess.PIPE, text=True, check=True)
            paths = re.findall(r"R(?:UN)?PATH\).*\[(.*)\]", read.stdout)
            assert all(path.startswith(f"/{PREFIX}/lib") for path in paths), (name, paths)


def test_the_installed_node_serves_its_pages():
    with Installed() as installed, harness.Process("verbacast", node_settings(),
                                                   path=installed.program("verbacast")) as node:
        for path in ("/", "/dashboard"):
            status, headers, page = harness.http(node.url("http", path))
            assert status == 200 and headers["content-type"].startswith("text/html"), (path, status)
            linked = re.findall(r'(?:src|href)="(/?pages/[^"]+)"', page)
            assert linked, page[:500]
            for each in linked:
                assert harness.http(node.url("http", "/" + each.lstrip("/")))[0] == 200, each


def test_the_installed_pages_can_take_the_place_of_the_built_in():
    with Installed() as installed:
        folder = installed.path(PREFIX, "share/verbacast/pages")
        with open(os.path.join(folder, "index.html"), "a", encoding="utf-8") as file:
            file.write("<!-- ours -->")
        settings = {**node_settings(), "PAGES_DIR": folder}
        with harness.Process("verbacast", settings, path=installed.program("verbacast")) as node:
            assert harness.http(node.url("http", "/"))[2].endswith("<!-- ours -->")


def test_the_installed_stt_finds_its_libraries_and_model():
    if not harness.ENGINE:
        raise harness.Skip("no sherpa-onnx engine")
    with Installed() as installed:
        settings = {"STT_LISTEN": "127.0.0.1:0", "STT_ENGINE": "sherpa", "LD_LIBRARY_PATH": installed.libraries(),
                    "STT_MODEL": installed.path(PREFIX, "share/verbacast/stt")}
        with harness.Process("verbacast-stt", settings, path=installed.program("verbacast-stt")) as stt:
            assert harness.http(stt.url("stt", "/readyz"))[0] == 200


def test_the_units_keep_what_they_need_and_nothing_else():
    with Installed() as installed:
        for name in PROGRAMS:
            with open(installed.path(UNITS, f"{name}.service"), encoding="utf-8") as file:
                missing = HARDENED - set(file.read().splitlines())
            assert not missing, (name, missing)


def drain_bound_ms(installed, name, environment):
    text = check_config(installed, name, environment)
    return int(re.search(r"a drain (?:may take up to|takes at most) (\d+) ms", text)[1])


def test_a_stop_has_the_time_that_a_drain_may_take():
    with Installed() as installed:
        for name in PROGRAMS:
            bound_ms = drain_bound_ms(installed, name, {})
            if name == "verbacast":  # a database that is silent and brokers that are away take longest
                usual_ms, bound_ms = bound_ms, drain_bound_ms(installed, name, {
                    "DATABASE_URL": "postgresql://x@127.0.0.1/x", "KAFKA_BROKERS": "127.0.0.1:9", "KAFKA_PARTIALS": "1"})
                assert bound_ms > usual_ms + 10000, (usual_ms, bound_ms)
            with open(installed.path(UNITS, f"{name}.service"), encoding="utf-8") as file:
                stop_s = int(re.search(r"^TimeoutStopSec=(\d+)$", file.read(), re.M)[1])
            assert stop_s * 1000 > bound_ms, (name, stop_s, bound_ms)


def test_the_examples_of_environment_files_are_taken():
    with open(os.path.join(harness.ROOT, "docs", "configuration.md"), encoding="utf-8") as file:
        known = set(re.findall(r"^\| `([A-Z0-9_]+)` \|", file.read(), re.M))
    with Installed() as installed:
        for name in PROGRAMS:
            with open(installed.path(DOC, f"{name}.env"), encoding="utf-8") as file:
                text = file.read()
            set_or_not = re.findall(r"^#?([A-Z][A-Z0-9_]*)=", text, re.M)
            assert set(set_or_not) <= known, set(set_or_not) - known
            lines = dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
            effective = check_config(installed, name, lines)
            for key in lines:
                assert re.search(rf"^{key}=.* \(environment\)$", effective, re.M), (name, key, effective)


def test_systemd_has_no_complaint_about_the_units():
    if not shutil.which("systemd-analyze"):
        raise harness.Skip("systemd-analyze is not on this machine")
    with Installed() as installed:
        shutil.copytree("/lib/systemd/system", installed.path("usr/lib/systemd/system"), symlinks=True)
        os.makedirs(installed.path("bin"))
        shutil.copy("/bin/kill", installed.path("bin/kill"))
        for name in PROGRAMS:
            run = subprocess.run(["systemd-analyze", "verify", "--man=no", f"--root={installed.folder}", f"{name}.service"],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert run.returncode == 0 and name not in run.stdout, run.stdout


if __name__ == "__main__":
    harness.main(globals())
