#!/usr/bin/env python3
"""The image in a container: read-only, without rights, without a network beyond its own, under a limit of
memory. It becomes healthy, takes a document, answers, is scraped, drains.

    container_test.py FOLDER MODEL.gguf DOCUMENT.txt

FOLDER was filled by deploy/image/build_without_docker.sh. Run it as root.
"""
import json
import os
import pathlib
import subprocess
import sys
import time

MEMORY = 512 << 20
CLI = '/usr/local/bin/lectern'


def configure(bundle, model):
    """The configuration of `docker run --read-only --cap-drop=ALL --security-opt=no-new-privileges -m 512m -v ...`."""
    path, unpacked = bundle / 'config.json', bundle / 'config.unpacked.json'
    if not unpacked.exists():
        path.rename(unpacked)
    config = json.loads(unpacked.read_text())
    process, linux = config['process'], config['linux']
    process.update(terminal=False, noNewPrivileges=True)
    process['capabilities'] = {kind: [] for kind in ('bounding', 'effective', 'inheritable', 'permitted', 'ambient')}
    process['args'] += [f'--model=smollm2=/models/{model.name}', '--kv_bytes=128MiB']
    config['root']['readonly'] = True
    config['mounts'].append({'destination': '/models', 'type': 'bind', 'source': str(model.parent),
                             'options': ['bind', 'ro']})
    linux['resources'] = {**linux.get('resources', {}), 'memory': {'limit': MEMORY}, 'pids': {'limit': 256}}
    path.write_text(json.dumps(config))


class Container:
    def __init__(self, bundle):
        self.name = f'lectern-test-{os.getpid()}'
        self.log = bundle.parent / 'container.log'
        self.started = time.monotonic()
        with open(self.log, 'wb') as log:
            self.process = subprocess.Popen(['runc', 'run', '-b', bundle, self.name], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(['runc', 'delete', '--force', self.name], capture_output=True)
        self.process.wait()

    def command(self, *words):
        return ['runc', 'exec', self.name, *words]

    def run(self, *words, **options):
        return subprocess.run(self.command(*words), capture_output=True, timeout=120, **options)

    def pid(self):
        state = subprocess.run(['runc', 'state', self.name], capture_output=True, check=True)
        return json.loads(state.stdout)['pid']

    def wait_until(self, healthy):
        while self.run(*healthy).returncode != 0:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < self.started + 120, self.log.read_text()
            time.sleep(0.05)
        return time.monotonic() - self.started


def check_confinement(container, bundle):
    proc = pathlib.Path(f'/proc/{container.pid()}')
    status = dict(line.split(':\t', 1) for line in (proc / 'status').read_text().splitlines() if ':\t' in line)
    assert status['Uid'].split() == ['65532'] * 4, status['Uid']
    assert int(status['CapEff'], 16) == int(status['CapBnd'], 16) == 0 and status['NoNewPrivs'] == '1', status
    root = [line.split() for line in (proc / 'mountinfo').read_text().splitlines() if line.split()[4] == '/']
    assert root and all('ro' in fields[5].split(',') for fields in root), root
    assert not any((bundle / 'rootfs' / place).exists() for place in ('bin/sh', 'usr/bin/sh', 'bin/bash', 'usr/bin/apt'))
    setuid = [path for path in (bundle / 'rootfs').rglob('*') if path.is_file() and path.stat().st_mode & 0o6000]
    assert not setuid, setuid
    stats = json.loads(subprocess.run(['runc', 'events', '--stats', container.name], capture_output=True,
                                      check=True).stdout)
    memory = stats['data']['memory']['usage']
    assert memory['limit'] == MEMORY and 0 < memory['usage'] <= MEMORY, memory
    return memory.get('max', memory['usage'])


def scrape(container):
    """GET /metrics from inside of the container's network."""
    program = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8002/metrics').read().decode())"
    run = subprocess.run(['nsenter', '-t', str(container.pid()), '-n', sys.executable, '-c', program],
                         capture_output=True, check=True, text=True)
    return run.stdout


def main():
    folder, model, document = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
    bundle = folder / 'bundle'
    image = json.loads((folder / 'image.json').read_text())['Docker']['config']
    healthy = image['Healthcheck']['Test']
    assert healthy[0] == 'CMD' and image['User'] == '65532:65532', image
    assert image['Labels']['org.opencontainers.image.title'] == 'lectern', image['Labels']
    configure(bundle, model)
    text = document.read_bytes()
    with Container(bundle) as container:
        start = container.wait_until(healthy[1:])
        upload = container.run(CLI, 'upload', '-', input=text)
        assert upload.returncode == 0, upload.stderr
        name = upload.stdout.decode().strip()
        ask = container.run(CLI, 'ask', name, 'At what time did the relief valve V-12 fail?', '--json',
                            '--max_new_tokens=24')
        assert ask.returncode == 0, ask.stderr
        answer = json.loads(ask.stdout.decode().splitlines()[-1])['answer']
        assert answer['text'] and answer['evidence'], answer
        span = answer['evidence'][0]
        assert text[int(span.get('beginByte', 0)):int(span['endByte'])].decode() == span['text'], span
        metrics = scrape(container)
        assert 'lectern_documents_resident{tier="host"} 1\n' in metrics, metrics[:2000]
        peak = check_confinement(container, bundle)
        # A question that is running when the server is told to stop is answered, then it ends well.
        last = subprocess.Popen(container.command(CLI, 'ask', name, 'Tell about the station.', '--json',
                                                  '--max_new_tokens=200'), stdout=subprocess.PIPE, text=True)
        while 'delta' not in last.stdout.readline():
            assert last.poll() is None
        subprocess.run(['runc', 'kill', container.name, 'TERM'], check=True)
        rest = last.communicate(timeout=120)[0].splitlines()
        assert last.returncode == 0 and 'answer' in json.loads(rest[-1]), rest[-1:]
        assert container.process.wait(timeout=60) == 0, container.log.read_text()
    print(f'healthy after {start:.1f} s, at most {peak / (1 << 20):.0f} MiB in use; drained')
    return 0


if __name__ == '__main__':
    sys.exit(main())
