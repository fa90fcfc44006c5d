import process from 'node:process';
import { lightTests } from './test/support/rings.mjs';

const light = process.env.KMS_TEST_RING === 'check';

export default {
  testMatch: light ? lightTests().map((name) => `<rootDir>/${name}`) : ['<rootDir>/test/**/*.test.ts'],
  testSequencer: './test/support/sequencer.mjs',
  testEnvironment: './test/support/environment.mjs',
  globalSetup: './test/support/global-setup.mjs',
  globalTeardown: './test/support/global-teardown.mjs',
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    '\\.ts$': [
      'babel-jest',
      {
        babelrc: false,
        configFile: false,
        presets: [['@babel/preset-typescript', { onlyRemoveTypeImports: true }]],
      },
    ],
  },
  modulePathIgnorePatterns: ['<rootDir>/var/'],
  coverageProvider: 'v8',
  // With the default, two cores give one worker.
  maxWorkers: 2,
  testTimeout: 120_000,
  reporters: ['default', '<rootDir>/test/support/reporter.mjs'],
};
