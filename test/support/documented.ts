/** The OpenAPI document of a door as its readers get it, and what answers it allows. */

import { expect } from '@jest/globals';
import { z } from 'zod';
import type { Route } from '../../src/api/door.ts';
import { type DoorDescription, openApiDocument } from '../../src/api/openapi.ts';
import type { Answer } from './installation.ts';

export interface Operation {
  readonly operationId: string;
  readonly tags: readonly string[];
  readonly requestBody?: { readonly content: { readonly 'application/json': { readonly schema: object; readonly example: object } } };
  readonly responses: Readonly<Record<string, { readonly content?: { readonly 'application/json': { readonly schema: object } } }>>;
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly required?: boolean; readonly schema: object }[];
}

interface Written {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly tags: readonly { readonly name: string }[];
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- JSON Schemas of every shape
  readonly components: { readonly schemas: any };
}

export class Documented {
  /** JSON, as readers of the document get it. */
  readonly written: Written;

  constructor(door: DoorDescription, routes: readonly Route[]) {
    this.written = JSON.parse(JSON.stringify(openApiDocument(door, routes, '0.0.0'))) as Written;
  }

  all(): [string, string, Operation][] {
    return Object.entries(this.written.paths).flatMap(([path, item]) =>
      Object.entries(item).map(([method, operation]): [string, string, Operation] => [method.toUpperCase(), path, operation]));
  }

  find(method: string, path: string): Operation {
    const found = this.all().find(([m, p]) => m === method && p === path);
    if (found === undefined) throw new Error(`${method} ${path} is not documented`);
    return found[2];
  }

  /** Somebody else's reading of the JSON Schema: back into a checker, without our zod objects. */
  checker(schema: object): z.ZodType {
    const local = (of: unknown): string => JSON.stringify(of).replaceAll('#/components/schemas/', '#/$defs/');
    const $defs = JSON.parse(local(this.written.components.schemas)) as Record<string, never>;
    return z.fromJSONSchema({ ...(JSON.parse(local(schema)) as object), $defs });
  }

  /** What was answered is documented: the status, and a body of the documented shape or none. */
  expectAnswer(method: string, path: string, answer: Answer): void {
    const response = this.find(method, path).responses[answer.status];
    expect([method, path, answer.status, response !== undefined]).toEqual([method, path, answer.status, true]);
    const schema = response?.content?.['application/json'].schema;
    if (schema === undefined) {
      expect([method, path, answer.text]).toEqual([method, path, '']);
      return;
    }
    const parsed = this.checker(schema).safeParse(answer.json);
    expect([method, path, answer.json, parsed.error?.issues]).toEqual([method, path, answer.json, undefined]);
  }
}
