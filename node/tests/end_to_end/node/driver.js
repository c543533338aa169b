// The Apache driver for Node: node driver.js PORT, with NODE_PATH set to where the driver lies.
'use strict';

const assert = require('assert');
const cassandra = require('cassandra-driver');

const port = Number(process.argv[2]);
const { types } = cassandra;

function client(options) {
  return new cassandra.Client({
    contactPoints: ['127.0.0.1'],
    protocolOptions: { port, ...options },
    localDataCenter: 'datacenter1',
  });
}

async function schemaAndRows(db) {
  await db.execute("CREATE KEYSPACE js WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}");
  await db.execute('CREATE TABLE js.t (k int, c text, v bigint, m map<text, frozen<list<int>>>, at timestamp, id uuid, PRIMARY KEY (k, c))');
  const at = new Date(1767323045678);
  const id = types.Uuid.random();
  const insert = 'INSERT INTO js.t (k, c, v, m, at, id) VALUES (?, ?, ?, ?, ?, ?)';
  for (let c = 0; c < 25; c++) {
    const values = [1, String.fromCharCode(97 + c), types.Long.fromNumber(c), { x: [c, -c] }, at, id];
    await db.execute(insert, values, { prepare: true });
  }
  const result = await db.execute('SELECT * FROM js.t WHERE k = ? AND c = ?', [1, 'd'], { prepare: true });
  assert.deepStrictEqual(result.columns.map((column) => column.name), ['k', 'c', 'at', 'id', 'm', 'v']);
  const row = result.first();
  assert.strictEqual(row.v.toNumber(), 3);
  assert.deepStrictEqual(row.m, { x: [3, -3] });
  assert.strictEqual(row.at.getTime(), at.getTime());
  assert.ok(row.id.equals(id));
}

async function pages(db) {
  const seen = [];
  const select = 'SELECT c FROM js.t WHERE k = ?';
  for await (const row of db.stream(select, [1], { prepare: true, fetchSize: 4 })) {
    seen.push(row.c);
  }
  assert.strictEqual(seen.join(''), 'abcdefghijklmnopqrstuvwxy');
  const first = await db.execute(select, [1], { prepare: true, fetchSize: 10 });
  assert.strictEqual(first.rows.length, 10);
  const rest = await db.execute(select, [1], { prepare: true, fetchSize: 100, pageState: first.pageState });
  assert.strictEqual(rest.rows.map((row) => row.c).join(''), 'klmnopqrstuvwxy');
}

async function batches(db) {
  await db.batch([
    { query: 'INSERT INTO js.t (k, c, v) VALUES (?, ?, ?)', params: [2, 'a', 1] },
    { query: 'INSERT INTO js.t (k, c, v) VALUES (?, ?, ?)', params: [3, 'a', 2] },
  ], { prepare: true });
  const count = await db.execute('SELECT count(*) FROM js.t WHERE k IN (2, 3)');
  assert.strictEqual(count.first().count.toNumber(), 2);
}

async function metadata(db) {
  const table = await db.metadata.getTable('js', 't');
  assert.deepStrictEqual(table.partitionKeys.map((column) => column.name), ['k']);
  assert.deepStrictEqual(table.clusteringKeys.map((column) => column.name), ['c']);
  assert.strictEqual(db.getState().getConnectedHosts().length, 1);
  assert.strictEqual(db.metadata.getReplicas('js', Buffer.from([0, 0, 0, 1])).length, 1);
}

async function errors(db) {
  const codes = types.responseErrorCodes;
  const fails = (query, code) => assert.rejects(db.execute(query), (error) => {
    assert.strictEqual(error.code, code, query + ': ' + error.message);
    return true;
  });
  await fails('SELEC', codes.syntaxError);
  await fails('SELECT * FROM js.nosuch', codes.invalid);
  await fails('CREATE TABLE js.t (k int PRIMARY KEY)', codes.alreadyExists);
}

async function changes(db) {
  await db.execute("CREATE TABLE js.logged (k int PRIMARY KEY, v int) WITH cdc = {'enabled': true}");
  await db.execute('UPDATE js.logged SET v = 7 WHERE k = 1');
  const result = await db.execute('SELECT k, v, "cdc$operation" AS op, "cdc$time" AS t FROM js.logged_scylla_cdc_log');
  const row = result.first();
  assert.deepStrictEqual([row.k, row.v, row.op], [1, 7, 1]);
  assert.ok(Math.abs(row.t.getDate().getTime() - Date.now()) < 60000);
}

async function main() {
  const db = client({});
  await db.connect();
  for (const test of [schemaAndRows, pages, batches, metadata, errors, changes]) {
    await test(db);
    console.log('ok test_' + test.name);
  }
  await db.shutdown();
  const older = client({ maxVersion: types.protocolVersion.v3 });
  const result = await older.execute('SELECT v FROM js.t WHERE k = ? AND c = ?', [1, 'b'], { prepare: true });
  assert.strictEqual(result.first().v.toNumber(), 1);
  await older.shutdown();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
