/** Readers of keys of elsewhere, for doors; what they read is unwrapped into the token, and nothing of it is stored. */

export { type BareFormat, isPublicJwk, type JwkMembers, readBare, readJwk } from '../crypto/engine.ts';
