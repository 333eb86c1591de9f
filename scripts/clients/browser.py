#!/usr/bin/env python3
"""A page in Chromium that watches by EventSource, as docs/api/browsers.md says: it trades a token for a cookie, opens
`/meshkit/peers:watch`, and lets the browser find its way back by itself.

    browser.py https://127.0.0.1:7401 .meshkit-dev/tokens/observe.jwt [/meshkit/peers:watch?snapshot=true]

Prints one line of JSON for each event, until its input ends:

    {"kind": "unit", "id": "<token>", "data": {...}}      an event of the stream, with the id that the browser remembers
    {"kind": "open"} {"kind": "broken", "state": 0}       connected; lost: 0 the browser connects again, 2 it has given up

Speaks to Chromium by a pipe, with nothing but Python's own library. The node's certificate is trusted by the hash of its
key, so no store is touched; HTTP/3 is off, since Chromium takes no such certificate over QUIC.
"""

import base64
import hashlib
import json
import os
import select
import shutil
import ssl
import subprocess
import sys
import tempfile
from urllib.parse import urlsplit

ANSWER_WITHIN_S = 30
MESSAGE_BYTES_MAX = 64 << 20

PAGE = """(async (token, path) => {
  const told = (event) => window.__told(JSON.stringify(event));
  const begun = await fetch("/meshkit/session", { method: "POST", headers: { Authorization: `Bearer ${token}` } });
  if (!begun.ok) throw new Error(`no session: ${begun.status} ${await begun.text()}`);
  window.source = new EventSource(path);
  source.onopen = () => told({ kind: "open" });
  for (const kind of ["begun", "snapshot", "unit", "progress", "error"])
    source.addEventListener(kind, (event) => event.data === undefined
      ? told({ kind: "broken", state: source.readyState })
      : told({ kind, id: event.lastEventId, data: JSON.parse(event.data) }));
})"""


def fail(why):
    print(f"browser: {why}", file=sys.stderr)
    sys.exit(1)


def key_hash(url):
    """The hash of the node's public key, as Chromium is told of keys: base64 of SHA-256 over SubjectPublicKeyInfo."""
    at = urlsplit(url)
    pem = ssl.get_server_certificate((at.hostname, at.port or 443), timeout=ANSWER_WITHIN_S)
    key = subprocess.run(["openssl", "x509", "-pubkey", "-noout"], input=pem.encode(), capture_output=True, check=True)
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=key.stdout, capture_output=True, check=True)
    return base64.b64encode(hashlib.sha256(der.stdout).digest()).decode()


class Chromium:
    """A headless Chromium with a profile of its own."""

    def __init__(self, spki):
        program = shutil.which("chromium") or shutil.which("chromium-browser") or fail("there is no chromium")
        self.profile = tempfile.TemporaryDirectory(prefix="meshkit-browser.", ignore_cleanup_errors=True)
        to_read, self.write = os.pipe()
        self.read, to_write = os.pipe()
        flags = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={self.profile.name}", f"--ignore-certificate-errors-spki-list={spki}",
            "--remote-debugging-pipe", "about:blank",
        ]

        def pipes():
            # Chromium reads what it is told from 3, and writes to 4; neither may lie where the other has to be put.
            reads, writes = os.dup2(to_read, 30), os.dup2(to_write, 40)
            os.dup2(reads, 3)
            os.dup2(writes, 4)

        self.process = subprocess.Popen(
            [program, *flags], preexec_fn=pipes, close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True)
        os.close(to_read)
        os.close(to_write)
        self.number = 0
        self.pending = b""
        self.events = []

    def message(self, within):
        """The next message; none where none comes in time."""
        while b"\0" not in self.pending:
            ready, _, _ = select.select([self.read], [], [], within)
            if not ready:
                return None
            piece = os.read(self.read, 1 << 16)
            if not piece:
                fail("chromium has ended")
            self.pending += piece
            if len(self.pending) > MESSAGE_BYTES_MAX:
                fail("a message without end")
        line, _, self.pending = self.pending.partition(b"\0")
        return json.loads(line)

    def call(self, method, params, session=None):
        self.number += 1
        call = {"id": self.number, "method": method, "params": params}
        if session:
            call["sessionId"] = session
        os.write(self.write, json.dumps(call).encode() + b"\0")
        while True:
            message = self.message(ANSWER_WITHIN_S) or fail(f"chromium does not answer {method}")
            if message.get("id") == self.number:
                return message.get("result") or {} if "error" not in message else fail(f"{method}: {message['error']}")
            self.events.append(message)

    def close(self):
        # It has asked for no more than a pipe, so it goes with it.
        os.close(self.write)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.profile.cleanup()


def open_page(chromium, url, token, path):
    target = chromium.call("Target.createTarget", {"url": "about:blank"})["targetId"]
    session = chromium.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
    for domain in ("Page", "Runtime"):
        chromium.call(f"{domain}.enable", {}, session)
    chromium.call("Runtime.addBinding", {"name": "__told"}, session)
    # A page of the node's own: others are refused.
    went = chromium.call("Page.navigate", {"url": f"{url}/livez"}, session)
    if went.get("errorText"):
        fail(f"{url}: {went['errorText']}")
    while not any(event.get("method") == "Page.loadEventFired" for event in chromium.events):
        chromium.events.append(chromium.message(ANSWER_WITHIN_S) or fail("the page is not loaded"))
    script = f"{PAGE}({json.dumps(token)}, {json.dumps(path)})"
    ran = chromium.call("Runtime.evaluate", {"expression": script, "awaitPromise": True}, session)
    if "exceptionDetails" in ran:
        fail(ran["exceptionDetails"].get("exception", {}).get("description", "the page's script failed"))


def told(message):
    return message["params"]["payload"] if message.get("method") == "Runtime.bindingCalled" else None


def follow(chromium):
    """Prints what the page tells, until the input ends."""
    while True:
        for payload in filter(None, map(told, chromium.events)):
            print(payload, flush=True)
        chromium.events.clear()
        wait = 0 if b"\0" in chromium.pending else None
        ready, _, _ = select.select([chromium.read, sys.stdin], [], [], wait)
        if sys.stdin in ready and not os.read(sys.stdin.fileno(), 1 << 12):
            return
        if chromium.read in ready or wait == 0:
            chromium.events.append(chromium.message(ANSWER_WITHIN_S) or fail("half a message"))


def main():
    if len(sys.argv) not in (3, 4):
        fail("say where the node is and which file holds a token")
    url, file, path = (*sys.argv[1:], "/meshkit/peers:watch?snapshot=true")[:3]
    with open(file, encoding="utf-8") as token:
        token = token.read().strip()
    chromium = Chromium(key_hash(url))
    try:
        open_page(chromium, url.rstrip("/"), token, path)
        follow(chromium)
    finally:
        chromium.close()


main()
