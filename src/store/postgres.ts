import type { KeyStore } from './store.ts';
export function openPostgresStore(_: object): Promise<KeyStore> { return Promise.reject(new Error('not merged')); }
export function migratePostgres(_url: string, _password?: string): Promise<void> { return Promise.reject(new Error('not merged')); }
