#!/usr/bin/env node
/** Entry of every command. What holds for the modules of a program must be said before they are loaded. */

import { cacheCompiledCode, nameSourceFiles } from './runtime.ts';

nameSourceFiles();
cacheCompiledCode();
const { run } = await import('./program.ts');
await run();
