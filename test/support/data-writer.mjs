// Another process with the same token, past our layer: replaces a data object again and again, new first, then the old.
// Arguments: module, file of the PIN, application, replacements.
import { readFileSync } from 'node:fs';
import process from 'node:process';
import ck from 'pkcs11js';

const [path, pinFile, application, count] = process.argv.slice(2);
const module = new ck.PKCS11();
module.load(path);
module.C_Initialize({ flags: ck.CKF_OS_LOCKING_OK });
const session = module.C_OpenSession(module.C_GetSlotList(true)[0], ck.CKF_SERIAL_SESSION | ck.CKF_RW_SESSION);
module.C_Login(session, ck.CKU_USER, readFileSync(pinFile, 'utf8').trim());

const ours = [
  { type: ck.CKA_CLASS, value: ck.CKO_DATA },
  { type: ck.CKA_TOKEN, value: true },
  { type: ck.CKA_APPLICATION, value: Buffer.from(application) },
];

function found() {
  module.C_FindObjectsInit(session, ours);
  const handles = module.C_FindObjects(session, 1000);
  module.C_FindObjectsFinal(session);
  return handles;
}

// While a process logs in, SoftHSM's C_GetTokenInfo can fail in another.
process.send('logged in');

for (let n = 1; n <= Number(count); n += 1) {
  const old = found();
  const value = { type: ck.CKA_VALUE, value: Buffer.from(String(n)) };
  module.C_CreateObject(session, [...ours, { type: ck.CKA_PRIVATE, value: true }, value]);
  for (const handle of old) module.C_DestroyObject(session, handle);
}
module.C_Finalize();
process.disconnect();
