"""Builds and starts the node, a local speech-to-text server and a publisher of real speech."""

import glob
import os
import signal
import subprocess
import sys
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(ROOT, "build-quickstart")
BUILD = os.path.join(FOLDER, "release")
SPEECH = "/usr/share/pocketsphinx/test/data/librivox/*.wav"
READY_TIMEOUT_S = 120
STOP_TIMEOUT_S = 20


def say(text):
    print(text, file=sys.stderr, flush=True)


def fail(text):
    say(f"error: {text}")
    sys.exit(1)


def run(command, what):
    """Runs a step and gives its output, which is shown only when it fails."""
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        say(done.stdout[-4000:])
        fail(f"{what} failed: {' '.join(command)}")
    return done.stdout


def engine():
    """The folder of the speech engine; "" means the one that Debian has."""
    target = os.path.join(FOLDER, "stt")
    fetched = subprocess.run([os.path.join(ROOT, "deploy", "fetch-stt"), target], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True)
    if fetched.returncode == 0:
        return target
    say(fetched.stdout[-1500:])
    say("NOTE: the recogniser of PyPI cannot be had; taking pocketsphinx of Debian, which makes many more errors")
    run([os.path.join(ROOT, "deploy", "install-packages"), os.path.join("deploy", "packages-fallback.txt")],
        "installing pocketsphinx")
    return ""


def build(stt_root):
    say("building")
    if os.path.exists(os.path.join(BUILD, "build.ninja")):
        run(["meson", "configure", BUILD, f"-Dstt_root={stt_root}"], "configuring")
    else:
        run(["meson", "setup", BUILD, ROOT, "-Dbuildtype=release", f"-Dstt_root={stt_root}"], "configuring")
    output = run(["ninja", "-C", BUILD, "src/main/verbacast", "src/main/verbacast-stt"], "building")
    if "no work to do" in output:
        say("nothing to build")


class Server:
    """A program of ours; its log goes to a file and its ready line gives the addresses."""

    def __init__(self, name, options):
        self.name = name
        self.log_path = os.path.join(FOLDER, f"{name}.log")
        environment = dict(os.environ)
        for key, value in options.items():
            environment.setdefault(key, value)
        with open(self.log_path, "wb") as log:
            # A session of its own: Ctrl-C comes to us, and we end the programs in order.
            self.process = subprocess.Popen([os.path.join(BUILD, "src", "main", name)], env=environment, stderr=log,
                                            stdout=subprocess.PIPE, cwd=FOLDER, start_new_session=True)

    def addresses(self):
        lines = []
        reader = threading.Thread(target=lambda: lines.append(self.process.stdout.readline().decode()), daemon=True)
        reader.start()
        reader.join(READY_TIMEOUT_S)
        if not lines or not lines[0].startswith("ready "):
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                say(log.read()[-2000:])
            raise RuntimeError(f"{self.name} did not start; its log is {self.log_path}")
        return dict(word.split("=", 1) for word in lines[0].split()[1:])

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def publish(rtmp, slug):
    """Plays the recordings in real time, over and over."""
    files = sorted(glob.glob(SPEECH))
    if not files:
        raise RuntimeError(f"no recorded speech at {SPEECH}")
    playlist = os.path.join(FOLDER, "speech.txt")
    with open(playlist, "w", encoding="utf-8") as file:
        file.writelines(f"file '{name}'\n" for name in files)
    return subprocess.Popen(["ffmpeg", "-nostdin", "-loglevel", "error", "-re", "-stream_loop", "-1", "-f", "concat",
                             "-safe", "0", "-i", playlist, "-ar", "44100", "-c:a", "aac", "-b:a", "96k", "-f", "flv",
                             f"rtmp://{rtmp}/live/{slug}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                            start_new_session=True)


def stop_all(started):
    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, signal.SIG_IGN)
    for each in reversed(started):
        if isinstance(each, Server):
            each.stop()
        elif each.poll() is None:
            each.terminate()
            each.wait()


def serve(started):
    stt = Server("verbacast-stt", {})
    started.append(stt)
    stt_address = stt.addresses()["stt"]
    node = Server("verbacast", {"STT_URL": f"http://{stt_address}/v2/live"})
    started.append(node)
    addresses = node.addresses()
    started.append(publish(addresses["rtmp"], "demo"))
    print(f"Watch real speech being transcribed: http://{addresses['http']}/?session=demo", flush=True)
    print(f"The node's figures:                  http://{addresses['http']}/dashboard", flush=True)
    print(f"Publish your own:                    rtmp://{addresses['rtmp']}/live/NAME", flush=True)
    print("Ctrl-C stops everything.", flush=True)
    while True:
        for each in list(started):
            process = each.process if isinstance(each, Server) else each
            if process.poll() is not None and each is started[-1]:
                say("the demo's publisher ended; starting it again")
                started[-1] = publish(addresses["rtmp"], "demo")
            elif process.poll() is not None:
                raise RuntimeError(f"{each.name} ended with {process.returncode}; its log is {each.log_path}")
        signal.sigtimedwait([], 1)


def main():
    os.makedirs(FOLDER, exist_ok=True)

    def end(*_):
        raise KeyboardInterrupt

    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, end)
    started = []
    status = 0
    try:
        build(engine())
        serve(started)
    except KeyboardInterrupt:
        say("stopping")
    except RuntimeError as error:
        say(f"error: {error}")
        status = 1
    stop_all(started)
    sys.exit(status)


if __name__ == "__main__":
    main()
