// SPDX-License-Identifier: Apache-2.0
// Endpoint tokens against the "jose" package, both ways. Usage: node jose_check.mjs AUTH_TOOL
// Exit 77: the package is not installed (looked for from TINDERBOX_NODE and from here up).
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { strict as assert } from 'node:assert';

async function load(name) {
  const roots = [process.env.TINDERBOX_NODE, import.meta.url,
                 new URL('../../e2e/', import.meta.url)].filter(Boolean);
  for (const root of roots) {
    try {
      const from = String(root).startsWith('file:') ? root : pathToFileURL(`${root}/x.js`);
      return await import(pathToFileURL(createRequire(from).resolve(name)));
    } catch { /* not there */ }
  }
  console.log(`skipped: the npm package "${name}" is not installed`);
  process.exit(77);
}

const jose = await load('jose');
const tool = (...requests) =>
  execFileSync(process.argv[2], { input: requests.map(r => JSON.stringify(r) + '\n').join('') })
    .toString().trim().split('\n').map(line => JSON.parse(line));

const [minted] = tool({ op: 'mint' });
const key = Buffer.from(minted.key, 'hex');
const { plaintext, protectedHeader } = await jose.compactDecrypt(minted.token, key);
assert.deepEqual(protectedHeader, { kid: minted.kid, alg: 'dir', enc: 'A256GCM' });
assert.equal(Object.keys(protectedHeader).join(), 'kid,alg,enc');
assert.equal(Buffer.from(plaintext).includes('microvm-42'), true);
await assert.rejects(jose.compactDecrypt(minted.token, Buffer.alloc(32)));

const header = { kid: minted.kid, alg: 'dir', enc: 'A256GCM' };
const theirs = await new jose.CompactEncrypt(plaintext).setProtectedHeader(header).encrypt(key);
const wrong = await new jose.CompactEncrypt(plaintext)
  .setProtectedHeader({ ...header, alg: 'A256GCMKW' }).encrypt(key);
const [opened, refused] = tool({ op: 'open', ...minted, token: theirs },
                               { op: 'open', ...minted, token: wrong });
assert.deepEqual(opened, { ok: true, microvmId: 'microvm-42' });
assert.equal(refused.ok, false);
console.log('tokens agree with jose');
