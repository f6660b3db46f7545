# frozen_string_literal: true

require "open3"
require "rbconfig"
require "tempfile"

# Servers for examples: in this process, or as the command `kino`.
module Serving
  # Each way to serve an app.
  WAYS = %i[ractor threaded].product(%i[queue lanes inline]).map do |mode, dispatch|
    { mode:, dispatch: }
  end.freeze

  # Starts a server for an app and shuts it down after the block.
  def serve(app, **options)
    server = Kino::Server.new(app, mode: :threaded, workers: 1, threads: 1, **options).start
    yield server
  ensure
    server&.shutdown
  end

  # What is written to the standard error of the process, by whichever Ractor, while the block runs.
  def errors_of
    saved = $stderr.dup
    Tempfile.create("errors") do |file|
      $stderr.reopen(file)
      yield
      $stderr.flush
      File.read(file.path)
    ensure
      $stderr.reopen(saved)
      saved.close
    end
  end

  # A process that runs exe/kino; killed when the block is over.
  class Command
    EXE = File.expand_path("../../exe/kino", __dir__)
    LIB = File.expand_path("../../lib", __dir__)
    SECONDS = 20

    attr_reader :pid
    # What it said, as far as it was looked at.
    attr_reader :said

    def self.run(...)
      command = new(...)
      yield command
    ensure
      command&.kill
    end

    # rackup: the text of a rackup file; under: a command that runs the command.
    def initialize(*arguments, rackup: nil, under: [], ruby_options: [])
      @said = +""
      if rackup
        @rackup = Tempfile.create(["config", ".ru"]).tap { _1.write(rackup) }.tap(&:close)
        arguments << @rackup.path
      end
      @output, output = IO.pipe
      @errors, errors = IO.pipe
      @pid = Process.spawn(*under, RbConfig.ruby, *ruby_options, "-I", LIB, EXE, *arguments,
                           in: File::NULL, out: output, err: errors)
      [output, errors].each(&:close)
      @reaper = Process.detach(@pid)
    end

    # The port it says it listens on.
    def port
      @port ||= await(@output, /^listening: http:.*:(\d+)$/)[1].to_i
    end

    # Waits for a line on standard error.
    def await_error(pattern) = await(@errors, pattern)

    def signal(name) = Process.kill(name, @pid)

    # The exit status, or nil when it is still there after so many seconds.
    def wait(seconds = SECONDS) = @reaper.join(seconds)&.value

    # What it printed, once it has ended.
    def output = @output.read
    def errors = @errors.read

    def await(io, pattern)
      loop do
        raise "no line matches #{pattern.inspect}: #{said}" unless io.wait_readable(SECONDS)

        line = io.gets or raise "no line matches #{pattern.inspect}: #{said}#{errors}"
        said << line
        return $~ if line =~ pattern
      end
    end
    private :await

    def kill
      Process.kill(:KILL, @pid) if @reaper.alive?
      @reaper.join
      [@output, @errors].each(&:close)
      File.unlink(@rackup) if @rackup
    end
  end
end

RSpec.shared_context "each way" do |way|
  let(:way) { way }

  def serve(app, **options, &) = super(app, **way, **options, &)
end
