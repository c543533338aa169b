"""Receives the events of a changefeed as webhooks, checks their signatures, and hands them to a recipe.

    python webhook_receiver.py whsec_c2VjcmV0IG9mIHRoZSBmZWVk warehouse --port 8080

It needs nothing beyond Python. Signatures are those of Standard Webhooks, whose libraries do the
same in other languages. TLS is left to the proxy in front of it.
"""

import argparse
import base64
import hashlib
import hmac
import json
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

from recipes import RECIPES

# A signature that is older was recorded by somebody and is sent again.
AGE_SECONDS_MAX = 300
BODY_BYTES_MAX = 64 * 1024 * 1024


def key_of_secret(secret):
    """The bytes that are signed with: base64 behind whsec_, else the text itself."""
    if secret.startswith("whsec_"):
        return base64.b64decode(secret[len("whsec_"):])
    return secret.encode()


def is_signed(secret, headers, body):
    """Whether whoever sent this knows the secret, and sent it just now."""
    identity, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > AGE_SECONDS_MAX:
        return False
    signed = f"{identity}.{timestamp}.".encode() + body
    digest = hmac.new(key_of_secret(secret), signed, hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(digest).decode()
    given = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(expected, one) for one in given)


class Receiver(BaseHTTPRequestHandler):
    # The server keeps one connection for all batches.
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = int(self.headers.get("content-length", "0"))
        if length > BODY_BYTES_MAX:
            # The feed stops: somebody should look at its batch_size.
            return self.answer(413)
        body = self.rfile.read(length)
        if not is_signed(self.server.secret, self.headers, body):
            # The feed stops as well; sending again would not help.
            return self.answer(401)
        for event in json.loads(body):
            # Marks of the option `resolved` have no operation.
            if "operation" in event:
                self.server.recipe.take(event)
                self.server.taken += 1
        # Only now: what is answered with 2xx never comes again, anything else may.
        self.answer(204)
        if self.server.events is not None and self.server.taken >= self.server.events:
            self.close_connection = True

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("secret", help="the feed's hmac_secret")
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--port", type=int, default=8080, help="0: any that is free")
    parser.add_argument("--events", type=int, help="end after so many, and print what came of them")
    arguments = parser.parse_args()
    server = HTTPServer(("127.0.0.1", arguments.port), Receiver)
    server.secret, server.recipe = arguments.secret, RECIPES[arguments.recipe]()
    server.taken, server.events = 0, arguments.events
    print(f"listening on port {server.server_port}", flush=True)
    if arguments.events is None:
        server.serve_forever()
    while server.taken < arguments.events:
        server.handle_request()
    print(json.dumps(server.recipe.result()))
