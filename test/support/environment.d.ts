/** The process's own environment, which native code and worker threads see; restored after each test file. */
declare const realEnvironment: {
  get(name: string): string | undefined;
  /** `undefined` removes the variable. */
  set(name: string, value: string | undefined): void;
};
