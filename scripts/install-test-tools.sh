#!/bin/sh
# Installs what the tests that cut the power and the faults of the chaos suite need, and a browser to look at a report, on
# Debian and Ubuntu. Run as root. Without these tools, or without root, those tests and faults say that they are skipped.
set -eu
apt-get update --quiet
apt-get install --yes --quiet --no-install-recommends e2fsprogs xfsprogs util-linux procps perl-base \
    strace libfaketime iproute2 nftables
# The browser is large, and named differently elsewhere: without it one test is skipped.
apt-get install --yes --quiet --no-install-recommends chromium || echo "no chromium: the report is not looked at"
