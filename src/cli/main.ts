#!/usr/bin/env node
/** Entry of every command. What holds for the modules of a program must be said before they are loaded. */

// Before anything else: the signal that makes Node listen for debuggers means nothing here.
process.on('SIGUSR1', () => undefined);
const { prepareRuntime } = await import('../runtime.ts');
await prepareRuntime();
const { run } = await import('./program.ts');
await run();

export {};
