/** Entry of a server process. */

// Before anything else: the signal that makes Node listen for debuggers means nothing here.
process.on('SIGUSR1', () => undefined);
const { prepareRuntime } = await import('../runtime.ts');
await prepareRuntime();
const { start } = await import('./server-program.ts');
await start();

export {};
