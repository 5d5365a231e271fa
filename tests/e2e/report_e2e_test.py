#!/usr/bin/env python3
"""The page of `lectern ask --report`, made by the server and the command line from a hostile document with a
small model, as Chromium sees it: the whole text and nothing else, evidence in its place, no message in
the console, nothing loaded. A copy of the page with a script in it shows that the browser would have reported it.

    report_e2e_test.py BIN_DIR MODEL_FOLDER [SCREENSHOT.png]
"""
import html.parser
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HOSTILE = (
    "The log of the night <script>document.title='run'</script><img src=http://example.org/x.png onerror=alert(1)>\n"
    "</div></section></main><h1>Not a heading</h1> &lt;b&gt; &amp; \"quotes\" and 'more'.\n"
    "Controls: \x1b[31mred\x07, C1 \u009b2J, reversed \u202etxt.exe\u202c, line\r\nends.\n"
    "At 03:14 the relief valve V-12 failed, and <b onmouseover=alert(2)>the gate</b> was bent.\n"
    "Umlauts äöü, 漢字, 🙂 and a very long line: " + 'x' * 400 + "\n"
    "The three pumps were off. Nobody called before six in the morning.\n")


def escaped(text):
    """The form in which a reader should see `text` (client/cli/report.h)."""
    seen = []
    for c in text.replace('\r\n', '\n'):
        code = ord(c)
        if c not in '\n\t' and code < 0x20:
            c = chr(0x2400 + code)
        elif 0x80 <= code < 0xa0:
            c = '\ufffd'
        elif 0x202a <= code <= 0x202e or 0x2066 <= code <= 0x2069:
            c = f'[U+{code:04X}]'
        seen.append(c)
    return ''.join(seen)


class Page(html.parser.HTMLParser):
    """Elements, ids, links, and the text of the document without the numbers of the evidence."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.ids, self.targets, self.text, self.marks = [], [], [], '', []
        self.open = []
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        handlers = [name for name in attributes if name.startswith('on')]
        assert not handlers, f'<{tag}> has {handlers}'
        if 'id' in attributes:
            self.ids.append(attributes['id'])
        if 'href' in attributes:
            self.targets.append(attributes['href'])
        if tag not in ('meta', 'link', 'rect'):
            self.open.append((tag, attributes.get('class')))
        if tag == 'mark':
            self.marks.append('')

    def handle_endtag(self, tag):
        if tag != 'rect':
            assert self.open.pop()[0] == tag, tag

    def handle_data(self, data):
        if ('div', 'text') in self.open and ('a', 'place') not in self.open:
            self.text += data
        if self.open and self.open[-1][0] == 'mark':
            self.marks[-1] += data


def chromium(program, folder, page, *flags):
    """(standard output, console messages, whether something of example.org was asked for); no network."""
    netlog = folder / 'net.json'
    run = subprocess.run(
        [program, '--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking',
         '--no-first-run', '--host-resolver-rules=MAP * ~NOTFOUND', f'--user-data-dir={folder}/profile', '--enable-logging=stderr',
         f'--log-net-log={netlog}', '--window-size=1400,1000', '--hide-scrollbars', *flags, f'file://{page}'],
        capture_output=True, timeout=120, check=True)
    messages = re.findall(r'CONSOLE[^\]]*\] (.*)', run.stderr.decode(errors='replace'))
    asked = re.search(r'"url":"[^"]*example\.org', netlog.read_text(errors='replace'))
    return run.stdout.decode(), messages, asked is not None


def check(program, folder, path, document):
    dom, messages, asked = chromium(program, folder, path, '--dump-dom')
    assert messages == [] and not asked, messages
    page = Page(dom)
    assert not {'script', 'img', 'b', 'iframe', 'object', 'link'} & set(page.tags), sorted(set(page.tags))
    assert page.tags.count('h1') == 1 and page.tags.count('section') == 5
    assert page.text == escaped(document), (page.text, escaped(document))
    assert page.marks and all(mark and mark in page.text for mark in page.marks), page.marks
    assert len(page.ids) == len(set(page.ids)), page.ids
    missing = [target for target in page.targets if target.lstrip('#') not in page.ids]
    assert page.targets and not missing, missing
    evidence = sum(name.startswith('evidence-') and name[9:].isdigit() for name in page.ids)
    assert evidence == sum(name.startswith('card-') for name in page.ids) > 1, page.ids
    return evidence


def check_that_a_breach_is_seen(program, folder, path):
    """A script and an image put into the page are stopped by its policy, and Chromium says so; without the
    policy they are not: an empty console and an empty net mean something."""
    bad = folder / 'breach.html'
    bad.write_text(path.read_text().replace(
        '<main>', '<main><script>document.title="run"</script><img src="http://example.org/x.png">', 1))
    dom, messages, asked = chromium(program, folder, bad, '--dump-dom')
    assert '<title>run</title>' not in dom and not asked
    assert sum('Content Security Policy' in message for message in messages) >= 2, messages
    bad.write_text(re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', '', bad.read_text(), count=1))
    dom, _, asked = chromium(program, folder, bad, '--dump-dom')
    assert '<title>run</title>' in dom and asked


class Server:
    def __init__(self, bin_dir, folder, model):
        self.ports = folder / 'ports.json'
        self.process = subprocess.Popen(
            [bin_dir / 'lectern-server', f'--model=m={model}', '--listen=127.0.0.1:0',
             '--metrics_listen=127.0.0.1:0', f'--port_file={self.ports}', '--kv_bytes=128MiB'],
            stdout=subprocess.DEVNULL)

    def address(self):
        while not self.ports.exists():
            assert self.process.poll() is None, 'the server ended'
            time.sleep(0.05)
        return f'127.0.0.1:{json.loads(self.ports.read_text())["grpc"]}'

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def main():
    bin_dir, model = map(pathlib.Path, sys.argv[1:3])
    program = shutil.which('chromium')
    if program is None:
        print('chromium is missing')
        return 1 if os.environ.get('CI') == 'true' else 77
    with tempfile.TemporaryDirectory() as name, Server(bin_dir, pathlib.Path(name), model) as server:
        folder = pathlib.Path(name)
        (folder / 'hostile.txt').write_text(HOSTILE, newline='')
        page = folder / 'page.html'
        subprocess.run([bin_dir / 'lectern', f'--server={server.address()}', 'ask',
                        f'--file={folder}/hostile.txt', f'--report={page}', '--max_new_tokens=24',
                        '--title=<i>hostile</i>.txt', 'At what time did <b>the valve</b> fail?'],
                       check=True, stdout=subprocess.DEVNULL)
        evidence = check(program, folder, page, HOSTILE)
        check_that_a_breach_is_seen(program, folder, page)
        picture = pathlib.Path(sys.argv[3] if len(sys.argv) > 3 else folder / 'page.png')
        chromium(program, folder, page, f'--screenshot={picture}')
        assert picture.read_bytes().startswith(b'\x89PNG') and picture.stat().st_size > 20_000
        print(f'{evidence} pieces of evidence, {page.stat().st_size} bytes')
    return 0


if __name__ == '__main__':
    sys.exit(main())
