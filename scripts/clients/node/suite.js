// node-zookeeper-client, unmodified, against the ensemble that the environment names. The last line is
// `N passed, N failed`; arguments choose tests by parts of their names.
'use strict';

const assert = require('node:assert/strict');
const http = require('node:http');
const { promisify } = require('node:util');
const zookeeper = require('node-zookeeper-client');

const SERVERS = process.env.ROOST_ZK.split(',');
const PATIENCE_MS = 30_000;
const { CreateMode, Event, Exception, State, ACL, Id, Permission } = zookeeper;

const tests = [];
const test = (name, run) => tests.push({ name, run });

/** Returns the client's calls as functions that return promises. */
function promising(client) {
  const calls = {};
  for (const name of ['create', 'remove', 'removeRecursive', 'setData', 'getData', 'setACL', 'getACL', 'exists',
    'getChildren', 'mkdirp', 'listSubTreeBFS']) {
    calls[name] = promisify(client[name].bind(client));
  }
  // Two results: the data and the stat.
  calls.getData = (path, watcher) =>
    new Promise((resolve, reject) =>
      client.getData(path, watcher, (error, data, stat) => (error ? reject(error) : resolve({ data, stat }))));
  return calls;
}

/** What one test has open, and the root below which it has its znodes. */
class Fixture {
  constructor() {
    this.root = `/test-${process.pid}-${Math.random().toString(16).slice(2)}`;
    this.clients = [];
  }

  connect(servers = SERVERS) {
    const client = zookeeper.createClient(servers.join(','), { sessionTimeout: 6000, spinDelay: 50, retries: 100 });
    this.clients.push(client);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('not connected')), PATIENCE_MS);
      client.once('connected', () => {
        clearTimeout(timer);
        resolve(Object.assign(promising(client), { client }));
      });
      client.connect();
    });
  }

  async close() {
    for (const verb of ['spawn', 'start']) {
      for (const server of [1, 2, 3]) {
        await control('POST', `/${verb}?server=${server}`);
      }
    }
    const cleaner = await this.connect();
    cleaner.client.addAuthInfo('digest', Buffer.from(process.env.ROOST_SUPER));
    await cleaner.removeRecursive(this.root, -1);
    this.clients.forEach((client) => client.close());
  }
}

function control(method, path) {
  const [host, port] = process.env.ROOST_CONTROL.split(':');
  return new Promise((resolve, reject) => {
    const request = http.request({ host, port, method, path, agent: false }, (answer) => {
      let text = '';
      answer.on('data', (part) => (text += part));
      answer.on('end', () => (answer.statusCode === 200 ? resolve(text.trim()) : reject(new Error(text))));
    });
    request.on('error', reject);
    request.end();
  });
}

async function waitFor(condition, what) {
  const ends = Date.now() + PATIENCE_MS;
  while (!(await condition())) {
    if (Date.now() > ends) {
      throw new Error(`not within ${PATIENCE_MS} ms: ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Asserts that a call is refused with this code. */
async function refused(code, call) {
  await assert.rejects(call, (error) => {
    assert.equal(error.getCode && error.getCode(), code, String(error));
    return true;
  });
}

test('every create mode makes its kind of znode', async (fixture) => {
  const zk = await fixture.connect();
  await zk.mkdirp(fixture.root);
  const path = (name) => `${fixture.root}/${name}`;
  assert.equal(await zk.create(path('plain'), Buffer.from('x')), path('plain'));
  assert.equal(await zk.create(path('s-'), null, ACL.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL),
    path('s-0000000001'));
  assert.equal(await zk.create(path('e'), null, ACL.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL), path('e'));
  assert.equal(await zk.create(path('es-'), null, ACL.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL),
    path('es-0000000003'));
  const stat = await zk.exists(path('e'));
  assert.deepEqual(stat.ephemeralOwner, zk.client.getSessionId());
  assert.deepEqual((await zk.getChildren(fixture.root)).sort(), ['e', 'es-0000000003', 'plain', 's-0000000001']);
});

test('a znode is read, set and deleted by version', async (fixture) => {
  const zk = await fixture.connect();
  await zk.mkdirp(`${fixture.root}/a/b/c`);
  const { data, stat } = await zk.getData(fixture.root);
  assert.equal(data, undefined);
  assert.equal(stat.numChildren, 1);
  const changed = await zk.setData(fixture.root, Buffer.from('1'), 0);
  assert.equal(changed.version, 1);
  assert.equal((await zk.getData(fixture.root)).data.toString(), '1');
  await refused(Exception.BAD_VERSION, zk.setData(fixture.root, Buffer.from('2'), 0));
  await refused(Exception.NO_NODE, zk.getData(`${fixture.root}/no`));
  await refused(Exception.NODE_EXISTS, zk.create(`${fixture.root}/a`, null));
  await refused(Exception.NOT_EMPTY, zk.remove(`${fixture.root}/a`, -1));
  assert.deepEqual(await zk.listSubTreeBFS(`${fixture.root}/a/b`),
    ['', '/c'].map((name) => `${fixture.root}/a/b${name}`));
  await zk.removeRecursive(`${fixture.root}/a/b`, -1);
  await zk.remove(`${fixture.root}/a`, -1);
  assert.equal(await zk.exists(`${fixture.root}/a`), null);
});

test('each change fires the watches that it concerns', async (fixture) => {
  const [zk, other] = [await fixture.connect([SERVERS[0]]), await fixture.connect([SERVERS[0]])];
  await zk.mkdirp(fixture.root);
  const seen = [];
  const watcher = (event) => seen.push(`${event.name} ${event.path.slice(fixture.root.length)}`);
  await zk.exists(`${fixture.root}/w`, watcher);
  await zk.getChildren(fixture.root, watcher);
  await other.create(`${fixture.root}/w`, null);
  await waitFor(() => seen.length === 2, 'created and child');
  assert.deepEqual(seen.splice(0).sort(), ['NODE_CHILDREN_CHANGED ', 'NODE_CREATED /w']);
  await zk.getData(`${fixture.root}/w`, watcher);
  await other.setData(`${fixture.root}/w`, Buffer.from('1'));
  await waitFor(() => seen.length === 1, 'changed');
  await zk.exists(`${fixture.root}/w`, watcher);
  await other.remove(`${fixture.root}/w`, -1);
  await waitFor(() => seen.length === 2, 'deleted');
  assert.deepEqual(seen, ['NODE_DATA_CHANGED /w', 'NODE_DELETED /w']);
});

test('a transaction does all or nothing and says which op failed', async (fixture) => {
  const zk = await fixture.connect();
  await zk.mkdirp(fixture.root);
  const commit = (transaction) =>
    new Promise((resolve) => transaction.commit((error, results) => resolve({ error, results })));
  const good = await commit(
    zk.client.transaction()
      .create(`${fixture.root}/t`, Buffer.from('x'))
      .check(`${fixture.root}/t`, 0)
      .setData(`${fixture.root}/t`, Buffer.from('y'), 0)
      .create(`${fixture.root}/gone`)
      .remove(`${fixture.root}/gone`));
  assert.equal(good.error, null);
  assert.equal(good.results.length, 5);
  assert.equal(good.results[0].path, `${fixture.root}/t`);
  const bad = await commit(
    zk.client.transaction()
      .setData(`${fixture.root}/t`, Buffer.from('z'))
      .check(`${fixture.root}/t`, 7)
      .remove(`${fixture.root}/t`));
  assert.equal(bad.error.getCode(), Exception.BAD_VERSION);
  assert.deepEqual(bad.results.map((result) => result.err),
    [Exception.OK, Exception.BAD_VERSION, Exception.RUNTIME_INCONSISTENCY]);
  assert.equal((await zk.getData(`${fixture.root}/t`)).data.toString(), 'y');
});

test('a digest opens what its list allows and no more', async (fixture) => {
  // Of one server: this client has no sync, and another server may be behind.
  const [owner, stranger] = [await fixture.connect([SERVERS[0]]), await fixture.connect([SERVERS[0]])];
  await owner.mkdirp(fixture.root);
  owner.client.addAuthInfo('digest', Buffer.from('owner:secret'));
  await owner.create(`${fixture.root}/mine`, Buffer.from('x'), ACL.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
  await refused(Exception.NO_AUTH, stranger.getData(`${fixture.root}/mine`));
  assert.equal((await owner.getData(`${fixture.root}/mine`)).data.toString(), 'x');
  const [acl] = await owner.getACL(`${fixture.root}/mine`);
  assert.deepEqual([acl.id.scheme, acl.permission], ['digest', Permission.ALL]);
  await owner.setACL(`${fixture.root}/mine`, [new ACL(Permission.READ, Id.ANYONE_ID_UNSAFE)], 0);
  assert.equal((await stranger.getData(`${fixture.root}/mine`)).data.toString(), 'x');
  await refused(Exception.NO_AUTH, stranger.setData(`${fixture.root}/mine`, Buffer.from('y')));
});

test('ephemerals go with their session', async (fixture) => {
  const [provider, other] = [await fixture.connect(), await fixture.connect()];
  await provider.mkdirp(fixture.root);
  await provider.create(`${fixture.root}/e`, null, ACL.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
  const seen = [];
  await waitFor(() => other.exists(`${fixture.root}/e`, (event) => seen.push(event.type)), 'the ephemeral');
  provider.client.close();
  await waitFor(() => seen.includes(Event.NODE_DELETED), 'its end');
  assert.equal(await other.exists(`${fixture.root}/e`), null);
});

test('hundreds of requests under way are answered in their order', async (fixture) => {
  const zk = await fixture.connect();
  await zk.mkdirp(fixture.root);
  const order = [];
  const calls = [];
  for (let n = 0; n < 300; n++) {
    calls.push(zk.setData(fixture.root, Buffer.from(String(n))).then((stat) => order.push(`set ${stat.version - 1}`)));
    calls.push(zk.getData(fixture.root).then(({ data }) => order.push(`get ${data}`)));
  }
  await Promise.all(calls);
  assert.deepEqual(order, Array.from({ length: 300 }, (_, n) => [`set ${n}`, `get ${n}`]).flat());
});

test('a client of a killed server goes on elsewhere with its session', async (fixture) => {
  const zk = await fixture.connect();
  await zk.mkdirp(fixture.root);
  await zk.create(`${fixture.root}/e`, Buffer.from('0'), ACL.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
  const session = zk.client.getSessionId().toString('hex');
  const states = [];
  zk.client.on('state', (state) => states.push(state));
  const port = zk.client.connectionManager.socket.remotePort;
  const server = SERVERS.findIndex((address) => address.endsWith(`:${port}`)) + 1;
  await control('POST', `/kill?server=${server}`);
  await waitFor(() => states.includes(State.SYNC_CONNECTED), 'the reconnection');
  await zk.setData(`${fixture.root}/e`, Buffer.from('1'));
  assert.equal(zk.client.getSessionId().toString('hex'), session);
  assert.ok(!states.includes(State.EXPIRED), 'the session lives');
  await control('POST', `/start?server=${server}`);
});

async function main() {
  const chosen = process.argv.slice(2);
  let [passed, failed] = [0, 0];
  for (const { name, run } of tests) {
    if (chosen.length > 0 && !chosen.some((part) => name.includes(part))) {
      continue;
    }
    const fixture = new Fixture();
    const began = Date.now();
    let verdict = 'ok';
    for (const step of [() => run(fixture), () => fixture.close()]) {
      await step().catch((error) => {
        verdict = 'FAILED';
        console.log(error);
      });
    }
    verdict === 'ok' ? passed++ : failed++;
    console.log(`${verdict} ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  }
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 && passed > 0 ? 0 : 1);
}

main();
