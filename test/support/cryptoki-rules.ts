/**
 * Which forms of PKCS#11 calls a source may hold (performance §1.1, security P-2 and P-8). Reads the syntax tree, so
 * that comments may name what is forbidden, and texts may not.
 */

import ts from 'typescript';

/** What pkcs11js takes in its synchronous form; one argument more is a callback. */
const ARGUMENTS: Readonly<Record<string, number>> = {
  C_Digest: 3, C_Encrypt: 3, C_EncryptFinal: 2, C_Decrypt: 3, C_DecryptFinal: 2, C_Sign: 3, C_SignFinal: 2,
  C_SignRecover: 3, C_Verify: 3, C_VerifyFinal: 2, C_VerifyRecover: 3, C_GenerateKey: 3, C_GenerateKeyPair: 4,
  C_WrapKey: 5, C_UnwrapKey: 5, C_DeriveKey: 4,
};

const FORBIDDEN = new Set(['C_CreateObject', 'C_SetAttributeValue', 'C_CopyObject']);

/**
 * Public halves, bytes of a caller that live for one call (P-8), and data objects, which are no keys: the only methods
 * that may make an object.
 */
const CREATES = new Set(['createPublicObject', 'createSessionSecret', 'createDataObject']);

/** Members through which graphene-pk11 uses keys or sessions. */
const GRAPHENE_KEYS =
  /^(?:open|login|logout|once|find|getObject|setAttribute|copy|destroy|create(?:Cipher|Decipher|Sign|Verify|Digest)?|generate(?:Key|KeyPair|Random)|wrapKey|unwrapKey|deriveKey|encrypt|decrypt|sign|verify|digest)$/;

/**
 * @param file path below the root of sources, as `pkcs11/inventory`, without ending
 * @returns `line: what` of each violation
 */
export function cryptokiViolations(file: string, text: string): readonly string[] {
  const source = ts.createSourceFile(`${file}.ts`, text, ts.ScriptTarget.Latest, true);
  const found: string[] = [];
  const note = (node: ts.Node, what: string): void => {
    found.push(`${source.getLineAndCharacterOfPosition(node.getStart()).line + 1}: ${what}`);
  };
  const usesGraphene = importsGraphene(source);
  const visit = (node: ts.Node): void => {
    const what = nameViolation(node, file) ?? callViolation(node) ?? grapheneViolation(node, file, usesGraphene);
    if (what !== undefined) note(node, what);
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

function nameOf(node: ts.Node): string | undefined {
  return ts.isIdentifier(node) || ts.isStringLiteralLike(node) ? node.text : undefined;
}

function nameViolation(node: ts.Node, file: string): string | undefined {
  const name = nameOf(node);
  if (name !== undefined && /^C_\w+(?:Async|Callback)$/.test(name)) return `${name} is asynchronous`;
  // A message may name a call; a name that is computed or called may not.
  if (name !== undefined && FORBIDDEN.has(name) && !isMessage(node) && !mayCreate(name, node, file)) return `${name} is forbidden`;
  if (ts.isElementAccessExpression(node) && isComputedCall(node.argumentExpression)) return 'a call with a computed name';
  return undefined;
}

function mayCreate(name: string, node: ts.Node, file: string): boolean {
  const method = ts.findAncestor(node, ts.isMethodDeclaration)?.name.getText() ?? '';
  return name === 'C_CreateObject' && file === 'pkcs11/cryptoki' && CREATES.has(method);
}

function isMessage(node: ts.Node): boolean {
  return ts.isStringLiteralLike(node) && ts.isNewExpression(node.parent);
}

function isComputedCall(argument: ts.Expression): boolean {
  return !ts.isStringLiteralLike(argument) && /^['"`]C_/.test(argument.getText());
}

function callViolation(node: ts.Node): string | undefined {
  if (!ts.isCallExpression(node)) return undefined;
  const { expression: callee } = node;
  const name = ts.isPropertyAccessExpression(callee) ? callee.name.text : ts.isElementAccessExpression(callee) ? nameOf(callee.argumentExpression) : undefined;
  if (name === undefined || !name.startsWith('C_')) return undefined;
  const last = node.arguments.at(-1);
  const isFunction = last !== undefined && (ts.isArrowFunction(last) || ts.isFunctionExpression(last));
  const isSpread = node.arguments.some((argument) => ts.isSpreadElement(argument));
  const tooMany = node.arguments.length > (ARGUMENTS[name] ?? Number.POSITIVE_INFINITY);
  return isFunction || isSpread || tooMany ? `${name} with a callback` : undefined;
}

function importsGraphene(source: ts.SourceFile): boolean {
  return source.statements.some((statement) =>
    ts.isImportDeclaration(statement) && nameOf(statement.moduleSpecifier) === 'graphene-pk11');
}

function grapheneViolation(node: ts.Node, file: string, usesGraphene: boolean): string | undefined {
  if (nameOf(node) === 'graphene-pk11' && file !== 'pkcs11/inventory') return 'only pkcs11/inventory uses graphene-pk11';
  if (!usesGraphene || !ts.isCallExpression(node)) return undefined;
  const name = ts.isPropertyAccessExpression(node.expression) ? node.expression.name.text : '';
  return GRAPHENE_KEYS.test(name) ? `graphene's ${name}()` : undefined;
}
