// The published clients for Entra ID and Key Vault together, in a process of their own: NODE_EXTRA_CA_CERTS is read at start.

import { createHash } from 'node:crypto';
import { Agent } from 'node:https';
import { ClientSecretCredential } from '@azure/identity';
import { CryptographyClient, KeyClient } from 'keyvault-keys-4.10';

const { tenantId, clientId, clientSecret, authorityHost, vaultUrl } = JSON.parse(process.env.CLIENT);
const credential = new ClientSecretCredential(tenantId, clientId, clientSecret, { authorityHost, disableInstanceDiscovery: true });
// Plain Debian resolves `localhost` and nothing below it.
const lookup = (_host, { all }, done) => (all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4));
const agent = new Agent({ lookup });
const policy = { name: 'lookup', sendRequest: (request, next) => { request.agent = agent; return next(request); } };
const options = { additionalPolicies: [{ policy, position: 'perCall' }] };

const client = new KeyClient(vaultUrl, credential, options);
const { name, key } = await client.createEcKey('by-secret', { curve: 'P-256' });
const digest = createHash('sha256').update('by a program').digest();
const { result } = await new CryptographyClient(await client.getKey(name), credential, options).sign('ES256', digest);
const text = (bytes) => Buffer.from(bytes).toString('base64url');
console.log(JSON.stringify({ name, x: text(key.x), y: text(key.y), digest: text(digest), signature: text(result) }));
agent.destroy();
