"""Four-letter words, read as those read them who have to: telegraf, Datadog's agent, kazoo, zkServer.sh, nc."""

import re

from suite import ADDRESSES, AGAINST, EnsembleTest, four_letters, main, wait_for

# What telegraf's plugin expects of each line; a line that is different ends its whole reading.
TELEGRAF = re.compile(r"^zk_(\w[\w\.\-]*)\s+([\w\.\-]+)")
VERSION = re.compile(r"^Zookeeper version: (\d+)\.(\d+)\.(\d+)-\S+, built on .+$")
CLIENT = re.compile(r"^ /([\d.]+):(\d+)\[\d+\]\(queued=\d+,recved=\d+,sent=\d+\)$")
CONNECTION = re.compile(
    r"^ /([\d.]+):(\d+)\[\d+\]\(queued=\d+,recved=\d+,sent=\d+"
    r"(?:,sid=(0x[0-9a-f]+),lop=[A-Z0-9]+,est=\d+,to=(\d+),lcxid=0x[0-9a-f]+,lzxid=0x[0-9a-f]+,"
    r"lresp=\d+,llat=\d+,minlat=\d+,avglat=\d+,maxlat=\d+)?\)$"
)
MODES = ("leader", "follower", "observer", "standalone", "read-only")


def pairs(text, separator):
    return dict(line.split(separator, 1) for line in text.splitlines() if separator in line)


class FourLetterWords(EnsembleTest):
    def setUp(self):
        super().setUp()
        self.client = self.connect(servers=[1])
        self.address = ADDRESSES[0]

    def test_ruok_is_answered_in_four_letters_by_every_server(self):
        self.assertEqual([four_letters(address, "ruok") for address in ADDRESSES], ["imok"] * 3)

    def test_srvr_has_the_lines_that_scripts_cut(self):
        modes = []
        for address in ADDRESSES:
            lines = four_letters(address, "srvr").splitlines()
            self.assertRegex(lines[0], VERSION)
            self.assertRegex(lines[1], r"^Latency min/avg/max: \d+/\d+(\.\d+)?/\d+$")
            rest = pairs("\n".join(lines[2:]), ": ")
            for name in ("Received", "Sent", "Connections", "Outstanding", "Node count"):
                self.assertRegex(rest[name], r"^\d+$")
            self.assertRegex(rest["Zxid"], r"^0x[0-9a-f]+$")
            self.assertIn(rest["Mode"], MODES)
            modes.append(rest["Mode"])
        self.assertEqual(sorted(modes), ["follower", "follower", "leader"])

    def test_stat_lists_the_clients_between_the_version_and_an_empty_line(self):
        lines = four_letters(self.address, "stat").splitlines()
        self.assertRegex(lines[0], VERSION)
        self.assertEqual(lines[1], "Clients:")
        end = lines.index("")
        clients = [CLIENT.match(line) for line in lines[2:end]]
        self.assertTrue(all(clients), lines[2:end])
        mine = str(self.client._connection._socket.getsockname()[1])
        self.assertIn(mine, [client[2] for client in clients])
        self.assertTrue(lines[end + 1].startswith("Latency min/avg/max: "))
        self.assertTrue(any(line.startswith("Node count: ") for line in lines[end + 1 :]))

    def test_every_line_of_mntr_is_one_that_telegraf_can_read(self):
        self.client.create("/e", ephemeral=True)
        self.client.get("/e", watch=lambda event: None)
        states = []
        for address in ADDRESSES:
            # telegraf ends the word with a new line.
            text = four_letters(address, "mntr\n")
            values = {}
            for line in text.splitlines():
                match = TELEGRAF.match(line)
                self.assertIsNotNone(match, line)
                values[match[1]] = match[2]
            self.assertRegex(text.splitlines()[0], r"^zk_version\t\d+\.\d+\.\d+-\S+, built on .+$")
            states.append(values["server_state"])
            for name in (
                "avg_latency max_latency min_latency packets_received packets_sent num_alive_connections "
                "outstanding_requests znode_count watch_count ephemerals_count approximate_data_size "
                "open_file_descriptor_count max_file_descriptor_count"
            ).split():
                self.assertRegex(values[name], r"^\d+(\.\d+)?$", name)
            if values["server_state"] == "leader":
                self.assertEqual(values["synced_followers"], "2")
            if address == self.address:
                self.assertGreaterEqual(int(values["num_alive_connections"]), 1)
                self.assertGreaterEqual(int(values["watch_count"]), 1)
                self.assertGreaterEqual(int(values["ephemerals_count"]), 1)
                self.assertGreaterEqual(int(values["znode_count"]), 6)
        self.assertEqual(sorted(states), ["follower", "follower", "leader"])

    def test_conf_is_names_and_values(self):
        values = pairs(four_letters(self.address, "conf"), "=")
        self.assertEqual(values["clientPort"], self.address.split(":")[1])
        for name in ("tickTime", "maxClientCnxns", "minSessionTimeout", "maxSessionTimeout", "serverId"):
            self.assertRegex(values[name], r"^-?\d+$", name)
        self.assertIn("dataDir", values)
        # ZooKeeper shows the members too, but calls some of them by other names than its own configuration does.
        if AGAINST == "roost":
            client = self.connect(chroot="")
            members = wait_for(lambda: client.get("/zookeeper/config")[0], "the members of a new ensemble")
            self.assertIn(f"membership: \n{members.decode()}", four_letters(self.address, "conf"))

    def test_dirs_and_hash_are_numbers(self):
        sizes = pairs(four_letters(self.address, "dirs"), ": ")
        self.assertGreater(int(sizes["logdir_size"]), 0)
        self.assertGreaterEqual(int(sizes["datadir_size"]), 0)
        if AGAINST == "roost":
            self.assertRegex(four_letters(self.address, "hash"), r"^[0-9a-f]+: \d+\n$")

    def test_cons_shows_each_connection_with_its_session(self):
        self.client.create("/x")
        lines = [line for line in four_letters(self.address, "cons").splitlines() if line]
        connections = [CONNECTION.match(line) for line in lines]
        self.assertTrue(all(connections), lines)
        mine = {match[3]: match for match in connections}[f"{self.client.client_id[0]:#x}"]
        self.assertEqual(int(mine[2]), self.client._connection._socket.getsockname()[1])
        self.assertEqual(mine[4], "6000")

    def test_wchs_counts_and_wchc_and_wchp_name_the_watches(self):
        self.client.create("/w")
        self.client.get("/w", watch=lambda event: None)
        summary = four_letters(self.address, "wchs")
        counts = re.fullmatch(r"(\d+) connections watching (\d+) paths\nTotal watches:(\d+)\n?", summary)
        self.assertIsNotNone(counts, summary)
        self.assertTrue(all(int(count) >= 1 for count in counts.groups()), summary)
        session, path = f"{self.client.client_id[0]:#x}", f"{self.root}/w"
        self.assertIn(f"{session}\n\t{path}\n", four_letters(self.address, "wchc"))
        self.assertIn(f"{path}\n\t{session}\n", four_letters(self.address, "wchp"))

    def test_dump_names_sessions_and_their_ephemerals(self):
        self.client.create("/e", ephemeral=True)
        session = f"{self.client.client_id[0]:#x}"
        text = four_letters(self.address, "dump")
        self.assertIn(session, text)
        self.assertIn("Sessions with Ephemerals (", text)
        ephemerals = text.split("Sessions with Ephemerals (")[1]
        self.assertRegex(ephemerals, rf"(?m)^{session}:\n(\t.*\n)*\t{self.root}/e$")

    def test_envi_begins_with_the_version_that_kazoo_looks_for(self):
        lines = four_letters(self.address, "envi").splitlines()
        self.assertEqual(lines[0], "Environment:")
        self.assertRegex(lines[1], r"^zookeeper\.version=\d+\.\d+\.\d+-\S+, built on .+$")
        self.assertTrue(all("=" in line for line in lines[1:]), lines)
        self.assertIn("host.name", pairs("\n".join(lines), "="))

    def test_isro_says_that_the_server_takes_writes(self):
        self.assertEqual([four_letters(address, "isro") for address in ADDRESSES], ["rw"] * 3)

    def test_the_counts_of_server_and_connections_are_reset(self):
        for n in range(20):
            self.client.exists(f"/{n}")
        self.assertEqual(four_letters(self.address, "srst"), "Server stats reset.\n")
        self.assertLess(int(pairs(four_letters(self.address, "srvr"), ": ")["Received"]), 20)
        self.assertEqual(four_letters(self.address, "crst"), "Connection stats reset.\n")

    def test_a_word_that_is_none_is_a_length_beyond_the_bound_and_closes_the_connection(self):
        try:
            answer = four_letters(self.address, "nope")
        except ConnectionResetError:
            answer = ""
        self.assertEqual(answer, "")


if __name__ == "__main__":
    main()
