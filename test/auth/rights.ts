/** What each built-in role may do, by hand from azure-keyvault-keys-api §6.1 to §6.3: nothing here is read from the code under test. */

const READ = ['get', 'list', 'getdeleted', 'listdeleted'];
const WRAP = ['wrap', 'unwrap', 'datakey', 'opendatakey'];
const CRYPTO = [...WRAP, 'encrypt', 'decrypt', 'sign', 'verify'];
const MANAGE = ['create', 'import', 'update', 'rotate', 'delete', 'getrotationpolicy', 'setrotationpolicy'];
const ALL = [...READ, ...CRYPTO, ...MANAGE, 'activate', 'deactivate', 'recover', 'purge', 'backup', 'restore', 'release', 'random'];
export const ROLES_OF_ROLES = ['readassignment', 'assign', 'unassign', 'readdefinition', 'define', 'undefine'];

export const RIGHTS: Readonly<Record<string, readonly string[]>> = {
  owner: [...ALL, ...ROLES_OF_ROLES],
  'Key Vault Administrator': ALL,
  'Key Vault Crypto Officer': ALL,
  'Key Vault Crypto User': [...READ, ...CRYPTO, 'update', 'backup', 'random'],
  'Key Vault Crypto Service Encryption User': [...READ, ...WRAP],
  'Key Vault Crypto Service Release User': ['release'],
  'Key Vault Reader': [...READ, 'getrotationpolicy'],
  'Key Vault Purge Operator': [],
  'Managed HSM Administrator': ROLES_OF_ROLES,
  'Managed HSM Crypto Officer': ['getdeleted', 'listdeleted', 'recover', 'purge', ...ROLES_OF_ROLES],
  'Managed HSM Crypto User': ['get', 'list', ...CRYPTO, ...MANAGE, 'backup', 'restore', 'release', 'random'],
  'Managed HSM Policy Administrator': ROLES_OF_ROLES,
  'Managed HSM Crypto Auditor': ['get', 'list', 'getrotationpolicy'],
  'Managed HSM Crypto Service Encryption User': ['get', 'list', ...WRAP, 'getrotationpolicy'],
  'Managed HSM Crypto Service Release User': ['release'],
  'Managed HSM Backup': ['backup'],
  'Managed HSM Restore': ['restore'],
};
