/** Versions of the API that are understood (azure-keyvault-keys-api §0.4); what they lack is served all the same. */

import { z } from 'zod';

/** Newest last. */
export const API_VERSIONS = [
  '2016-10-01', '7.0', '7.1', '7.2', '7.3', '7.4-preview.1', '7.4', '7.5', '7.6-preview.1', '7.6-preview.2', '7.6',
  '2025-06-01-preview', '2026-01-01-preview', '2025-07-01',
] as const;

export const NEWEST = '2025-07-01';

export const apiVersion = z.enum(API_VERSIONS).meta({ example: NEWEST, default: NEWEST });
