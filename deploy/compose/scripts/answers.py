"""Whether a page answers, for a container's health: `python answers.py URL`."""

import sys
import urllib.request

urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], timeout=4)
