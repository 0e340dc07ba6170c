// A real OpenID provider (npm oidc-provider) for the tests: node openid.mjs FOLDER < one line of JSON.
// FOLDER holds node_modules. It prints its issuer, and ends when its standard input does.
import { createServer } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const { Provider } = await import(pathToFileURL(join(process.argv[2], 'node_modules/oidc-provider/lib/index.js')));
const input = createInterface({ input: process.stdin });
input.on('close', () => process.exit(0));
input.once('line', (line) => {
  const { clients, accounts } = JSON.parse(line);
  const server = createServer();
  server.listen(0, '127.0.0.1', () => {
    const issuer = `http://localhost:${server.address().port}`;
    const provider = new Provider(issuer, {
      clients,
      claims: { openid: ['sub'], profile: ['name', 'forum_id', 'roles'] },
      cookies: { keys: ['only for tests'] },
      findAccount: (_, sub) => accounts[sub] && { accountId: sub, claims: () => ({ sub, ...accounts[sub] }) },
    });
    server.on('request', provider.callback());
    console.log(`issuer: ${issuer}`);
  });
});
