"""``mixnet-tf serve-demo``: a bundle's models in the browser."""

import argparse
import functools
from pathlib import Path
from typing import Any

from mixnet_tf.commands.arguments import integer_from
from mixnet_tf.commands.output import say

HELP = "show a page that runs a bundle's models in the browser, on this machine only"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="a folder that mixnet-tf bundle has written")
    help_text = "where the page is, on 127.0.0.1; 0 takes any that is free (default: %(default)s)"
    parser.add_argument("--port", type=integer_from(0, 65535), default=8000, metavar="N", help=help_text)
    parser.add_argument("--open", action="store_true", help="open the page in your browser")
    help_text = "a node_modules with LiteRT.js (default: downloaded once, 12 MB)"
    parser.add_argument("--runtime", type=Path, metavar="DIR", help=help_text)


def run(args: argparse.Namespace) -> dict[str, Any]:
    from mixnet_tf.demo.server import demo_server, serve

    server = demo_server(args.bundle, port=args.port, runtime=args.runtime)
    args.afterwards = functools.partial(serve, server, browser=args.open)
    return {"url": server.url, "bundle": str(args.bundle)}


def show(result: dict[str, Any]) -> None:
    say(f"{result['url']} shows {result['bundle']}; Ctrl-C ends it")
