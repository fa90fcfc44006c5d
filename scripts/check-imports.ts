// Checks who imports whom in src. The table is the whole rule; test/imports.test.ts runs it.
import { readdirSync, readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { join, posix } from 'node:path';
import ts from 'typescript';

/** Path below src (`keys/access.ts`) to text. */
export type Sources = ReadonlyMap<string, string>;

interface Row {
  /** Our modules, as `folder/file`, `folder/*` (at any depth), or `*`. */
  readonly ours: readonly string[];
  /** Our modules that may be named by a type-only import. */
  readonly types?: readonly string[];
  readonly libraries: readonly string[];
  /** Node's own modules; all of them when absent. */
  readonly builtins?: readonly string[];
}

const table: ReadonlyMap<string, Row> = new Map<string, Row>([
  ['errors', { ours: [], libraries: [] }],
  ['bytes', { ours: [], libraries: [] }],
  ['runtime', { ours: ['errors'], libraries: [] }],
  ['package', { ours: [], libraries: [] }],
  ['home', { ours: ['package'], libraries: [] }],
  ['own-process', { ours: [], libraries: [] }],
  ['pkcs11', { ours: ['errors', 'bytes'], libraries: ['graphene-pk11', 'pkcs11js', 'zod', 'yaml'] }],
  [
    'crypto',
    {
      ours: ['pkcs11/token', 'errors', 'bytes'],
      types: ['pkcs11/*'],
      libraries: [],
      builtins: ['node:crypto'],
    },
  ],
  ['store', { ours: ['errors', 'bytes'], libraries: ['kysely', 'better-sqlite3', 'pg'] }],
  ['audit', { ours: ['errors', 'bytes'], libraries: ['canonicalize'] }],
  ['auth', { ours: ['errors', 'bytes'], libraries: ['jose', '@peculiar/x509', 'reflect-metadata'] }],
  [
    'keys',
    {
      ours: [
        'crypto/engine',
        'crypto/algorithms',
        'store/store',
        'audit/log',
        'audit/stream-events',
        'auth/policy',
        'auth/principal',
        'telemetry/*',
        'errors',
        'bytes',
      ],
      types: ['crypto/anchor', 'audit/record', 'audit/flood', 'audit/dead-stream'],
      libraries: [],
    },
  ],
  [
    'api',
    {
      ours: ['keys/*', 'auth/*', 'telemetry/*', 'errors', 'bytes', 'package'],
      libraries: ['koa', '@koa/router', 'koa-body', 'zod', 'zod-openapi', 'jose'],
    },
  ],
  ['telemetry', { ours: ['errors', 'bytes'], libraries: ['pino', 'prom-client'] }],
  ['config', { ours: ['errors'], libraries: ['zod', 'yaml'] }],
  ['parts', { ours: ['pkcs11/*', 'store/*', 'config', 'home', 'errors'], libraries: [] }],
  ['sealing', { ours: ['pkcs11/*', 'crypto/*', 'store/*', 'audit/*', 'keys/*', 'config', 'home', 'errors'], libraries: [] }],
  ['server-certificate', { ours: ['pkcs11/*', 'crypto/*', 'auth/*', 'keys/*', 'telemetry/*', 'home', 'errors'], libraries: [] }],
  ['own-token', { ours: ['pkcs11/*', 'crypto/*', 'keys/*', 'parts', 'config'], types: ['store/*', 'telemetry/*'], libraries: [] }],
  ['trust', { ours: ['auth/*', 'config', 'errors'], types: ['keys/*'], libraries: [] }],
  ['doors', { ours: ['api/*', 'keys/*', 'config', 'package'], types: ['crypto/engine', 'store/store'], libraries: [] }],
  [
    'app',
    {
      ours: [...'pkcs11 crypto store audit auth keys api telemetry'.split(' ').map((f) => `${f}/*`), 'config', 'home', 'own-process', 'own-token', 'parts', 'doors', 'trust', 'sealing', 'server-certificate', 'runtime', 'errors', 'bytes'],
      libraries: ['*'],
    },
  ],
  ['cli', { ours: ['*'], libraries: ['*'] }],
]);

/** Only types: every folder may name them. */
const typesForAll = ['keys/key'];

/** Packages and Node modules that one folder alone may import, also where the table says `*`. */
const exclusive: ReadonlyMap<string, string> = new Map([
  ['pkcs11js', 'pkcs11'],
  ['graphene-pk11', 'pkcs11'],
  ['node:worker_threads', 'pkcs11'],
  ['node:cluster', 'cli'],
]);

/** Doors, none of which may import another. */
const apart = ['api/okms', 'api/keyvault', 'api/oauth'];

interface Import {
  /** Undefined when the name is computed. */
  readonly name: string | undefined;
  readonly typeOnly: boolean;
  readonly line: number;
}

/** Violations as readable lines; none when the tree follows the table. */
export function checkImports(sources: Sources = readSources()): string[] {
  const found: string[] = [];
  for (const [file, text] of sources) {
    const from = file.replace(/\.ts$/, '');
    const row = table.get(unit(from));
    if (!row) {
      // Ambient declarations at the top of src belong to no folder.
      if (!/^[^/]+\.d\.ts$/.test(file)) found.push(`${file}: the import table has no row for ${unit(from)}`);
      continue;
    }
    for (const item of importsOf(file, text)) {
      const reason = refusal(from, row, item);
      if (reason) found.push(`${file}:${item.line}: ${reason}`);
    }
  }
  return found;
}

export function readSources(root = 'src'): Sources {
  return new Map(
    readdirSync(root, { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts'))
      .sort()
      .map((file) => [file, readFileSync(join(root, file), 'utf8')]),
  );
}

function refusal(from: string, row: Row, { name, typeOnly }: Import): string | undefined {
  if (name === undefined) return row.libraries.includes('*') ? undefined : 'imports a computed name, which cannot be checked';
  if (name.startsWith('.')) return refusalOfOurs(from, row, name, typeOnly);
  return refusalOfPackage(from, row, name);
}

function refusalOfOurs(from: string, row: Row, name: string, typeOnly: boolean): string | undefined {
  const to = posix.join(posix.dirname(from), name).replace(/\.[cm]?[jt]s$/, '');
  if (to.startsWith('../')) return `imports ${name}, which is outside src`;
  const [mine, other] = [from, to].map((path) => apart.find((dialect) => path.startsWith(`${dialect}/`)));
  if (mine && other && mine !== other) return `${mine} may not import ${other} (${to})`;
  if (unit(to) === unit(from)) return undefined;
  if (matches(row.ours, to)) return undefined;
  if (matches([...(row.types ?? []), ...typesForAll], to)) {
    return typeOnly ? undefined : `${unit(from)} may import ${to} with \`import type\` only`;
  }
  return `${unit(from)} may not import ${to}`;
}

function refusalOfPackage(from: string, row: Row, name: string): string | undefined {
  const builtin = isBuiltin(name);
  const known = builtin ? `node:${name.replace(/^node:/, '')}` : packageOf(name);
  const owner = exclusive.get(known);
  if (owner !== undefined && owner !== unit(from)) return `${known} belongs to ${owner} alone`;
  const allowed = builtin ? (row.builtins ?? ['*']) : row.libraries;
  return matches(allowed, known) ? undefined : `${unit(from)} may not import ${known}`;
}

/** The row a path belongs to: its first folder, or its own name at the top of src. */
function unit(path: string): string {
  return path.split('/', 1)[0] ?? path;
}

function packageOf(name: string): string {
  return name.split('/', name.startsWith('@') ? 2 : 1).join('/');
}

function matches(patterns: readonly string[], path: string): boolean {
  return patterns.some((p) => p === '*' || p === path || (p.endsWith('/*') && path.startsWith(p.slice(0, -1))));
}

function importsOf(file: string, text: string): Import[] {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true, ts.ScriptKind.TS);
  const found: Import[] = [];
  const add = (node: ts.Node, specifier: ts.Node | undefined, typeOnly: boolean) => {
    const name = specifier && ts.isStringLiteralLike(specifier) ? specifier.text : undefined;
    found.push({ name, typeOnly, line: source.getLineAndCharacterOfPosition(node.getStart()).line + 1 });
  };
  const visit = (node: ts.Node): void => {
    // `import { type A }` is no type-only import: verbatimModuleSyntax leaves `import {}`, which loads the module.
    if (ts.isImportDeclaration(node)) {
      add(node, node.moduleSpecifier, node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword);
    } else if (ts.isExportDeclaration(node) && node.moduleSpecifier) {
      add(node, node.moduleSpecifier, node.isTypeOnly);
    } else if (ts.isImportTypeNode(node)) {
      add(node, ts.isLiteralTypeNode(node.argument) ? node.argument.literal : undefined, true);
    } else if (ts.isExternalModuleReference(node)) {
      add(node, node.expression, false);
    } else if (ts.isCallExpression(node) && loadsModule(node.expression)) {
      add(node, node.arguments[0], false);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

function loadsModule(callee: ts.Expression): boolean {
  return callee.kind === ts.SyntaxKind.ImportKeyword || (ts.isIdentifier(callee) && callee.text === 'require');
}
