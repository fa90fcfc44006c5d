import js from '@eslint/js';
import { defineConfig, globalIgnores } from 'eslint/config';
import tseslint from 'typescript-eslint';

const banned = [
  {
    selector: 'Identifier[name=/^C_\\w+(Async|Callback)$/]',
    message:
      'Only the operate half of these is asynchronous: another job can slip between init and operate on the same session. Token threads use the synchronous calls.',
  },
  {
    selector: 'MemberExpression[computed=true] > Literal[value=/^C_\\w+(Async|Callback)$/]',
    message: 'Asynchronous PKCS#11 calls are not used, see the rule for C_…Async.',
  },
  {
    // An event emitter's once() takes the event's name first; graphene's takes the data.
    selector:
      'CallExpression[callee.type="MemberExpression"][callee.property.name="once"][callee.object.name!="events"]:not([arguments.0.type="Literal"])',
    message: 'graphene’s once() runs its operate step off the thread; key operations go through pkcs11/cryptoki.ts.',
  },
];

const exits = [
  { object: 'process', property: 'exit', message: 'Only src/cli ends the process; throw instead.' },
  { object: 'process', property: 'reallyExit', message: 'Only src/cli ends the process; throw instead.' },
];

const exitImports = ['node:process', 'process'].map((name) => ({
  name,
  importNames: ['exit', 'reallyExit'],
  message: 'Only src/cli ends the process; throw instead.',
}));

const nodeGlobals = [
  'Buffer',
  'URL',
  'clearInterval',
  'clearTimeout',
  'console',
  'module',
  'performance',
  'process',
  'require',
  'setImmediate',
  'setInterval',
  'setTimeout',
  'structuredClone',
];

export default defineConfig(
  globalIgnores(['build/', 'dist/', 'var/', 'coverage/']),
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  js.configs.recommended,
  {
    files: ['**/*.mjs', '**/*.cjs'],
    languageOptions: { globals: Object.fromEntries(nodeGlobals.map((name) => [name, 'readonly'])) },
  },
  {
    // What browsers run.
    files: ['web/**/*.js'],
    languageOptions: { sourceType: 'script', globals: { document: 'readonly' } },
  },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'separate-type-imports' }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      // `import { type A }` still loads the module at run time under verbatimModuleSyntax.
      '@typescript-eslint/no-import-type-side-effects': 'error',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      'no-restricted-syntax': ['error', ...banned],
    },
  },
  {
    files: ['src/**/*.ts'],
    ignores: ['src/cli/**'],
    rules: {
      'no-console': 'error',
      'no-restricted-properties': ['error', ...exits],
      'no-restricted-imports': ['error', { paths: exitImports }],
    },
  },
  {
    files: ['test/**/*.ts'],
    rules: {
      // Tests read JSON bodies and break types on purpose.
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-return': 'off',
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/unbound-method': 'off',
    },
  },
);
