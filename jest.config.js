export default {
  testMatch: ['<rootDir>/test/**/*.test.ts'],
  testEnvironment: './test/support/environment.mjs',
  globalSetup: './test/support/postgres-setup.mjs',
  globalTeardown: './test/support/postgres-teardown.mjs',
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
  reporters: ['default', '<rootDir>/scripts/count-reporter.mjs'],
};
