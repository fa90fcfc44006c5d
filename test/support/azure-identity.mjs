// Gets a token with the published client, in a process of its own: NODE_EXTRA_CA_CERTS is read at start. Prints the token,
// or the name and message of what went wrong.

import { ClientSecretCredential } from '@azure/identity';

const { tenantId, clientId, clientSecret, authorityHost, scope } = JSON.parse(process.env.CLIENT);
const credential = new ClientSecretCredential(tenantId, clientId, clientSecret, { authorityHost, disableInstanceDiscovery: true });
try {
  console.log(JSON.stringify(await credential.getToken(scope)));
} catch (error) {
  console.log(JSON.stringify({ name: error.name, message: error.message, status: error.statusCode, answer: error.errorResponse }));
}
