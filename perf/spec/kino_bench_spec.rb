# frozen_string_literal: true

require "json"
require "open3"
require "rbconfig"
require "tmpdir"

# The whole command against servers that a few lines make, with a wrk that only takes notes.
RSpec.describe "perf/kino-bench" do
  around do |example|
    Dir.mktmpdir do |directory|
      @directory = directory
      write("wrk", <<~'RUBY', executable: true)
        print "wrk 4.2.0" or exit if ARGV == ["-v"]
        url = ARGV.grep(/http/).first
        File.write(File.join(__dir__, "notes"), "#{url}\n", mode: "a")
        errors = ENV.fetch("WRK_ERRORS", "0")
        puts '{"requests":500,"duration_us":1000000,"p50_us":1,"p99_us":2,' \
             '"errors":{"read":%s}}' % errors
      RUBY
      write("server", <<~'RUBY')
        require "socket"
        port, body, type = ARGV
        server = TCPServer.new("127.0.0.1", port.to_i)
        trap(:TERM) { exit }
        while (client = server.accept)
          client.gets("\r\n\r\n")
          client.write("HTTP/1.1 200 OK\r\n#{type || 'content-type'}: text/plain\r\n" \
                       "content-length: #{body.size}\r\n\r\n#{body}")
          client.close
        end
      RUBY
      example.run
    end
  end

  def write(name, text, executable: false)
    path = File.join(@directory, name)
    File.write(path, "#!#{RbConfig.ruby} --disable=gems\n#{text}")
    File.chmod(0o755, path) if executable
  end

  def server(name, *arguments)
    command = [RbConfig.ruby, "--disable=gems", "#{@directory}/server", "%{port}", *arguments]
    "--server=#{name}=#{command.join(' ')}"
  end

  def bench(*arguments, **environment)
    path = "#{@directory}:#{ENV.fetch('PATH')}"
    Open3.capture3({ "PATH" => path, **environment.transform_keys(&:to_s) }, RbConfig.ruby,
                   File.expand_path("../kino-bench", __dir__), *arguments)
  end

  def ports = File.readlines("#{@directory}/notes").map { _1[/:(\d+)/, 1] }

  it "measures in turn and prints a row for each server" do
    out, err, status = bench(server("a", "hi"), server("b", "hi"), server("c", "hi"),
                             "--rounds=2", "--warmup=0")
    expect(err).to eq ""
    expect(status).to be_success
    expect(out.lines.last(3)).to match [/\Aa +500 +1\.00/, /\Ab +500 +1\.00/, /\Ac +500 +1\.00/]
    expect(out)
      .to match(/^command: perf.kino-bench '--server=a=.*%{port} hi' .* --rounds=2 --warmup=0$/)
    expect(ports.uniq.size).to eq 3
    expect(ports).to eq ports.uniq * 2
  end

  it "prints JSON alone on stdout when asked" do
    out, err, = bench(server("a", "hi"), "--rounds=3", "--warmup=0", "--json=-")
    expect(JSON.parse(out)["servers"].first["rounds"].size).to eq 3
    expect(err).to match(/^a +500/)
  end

  it "trusts no latency of pipelined requests" do
    out, = bench(server("a", "hi"), "--rounds=1", "--warmup=0", "--pipeline=16")
    expect(out).to include("CPU us/req").and satisfy { !_1.include?("p50") }
  end

  it "shows errors and fails on them" do
    out, _, status = bench(server("a", "hi"), "--rounds=2", "--warmup=0", WRK_ERRORS: "3")
    expect(out.lines.last).to eq "a: errors: read 6\n"
    expect(status.exitstatus).to eq 1
  end

  it "holds idle connections while it measures, and says what one adds" do
    write("patient", <<~'RUBY')
      require "socket"
      server = TCPServer.new("127.0.0.1", ARGV[0].to_i)
      trap(:TERM) { exit }
      open = 0
      loop do
        Thread.new(server.accept) do |client|
          open += 1
          File.write(File.join(__dir__, "open"), "#{open}\n", mode: "a")
          while client.gets("\r\n\r\n")
            client.write("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n" \
                         "content-length: 2\r\n\r\nhi")
          end
        rescue Errno::ECONNRESET
          nil
        ensure
          open -= 1
        end
      end
    RUBY
    patient = "--server=a=#{RbConfig.ruby} --disable=gems #{@directory}/patient %{port}"
    out, err, status = bench(patient, "--rounds=2", "--warmup=0", "--idle=7")
    expect(err).to eq ""
    expect(status).to be_success
    expect(out).to include("GET /plaintext, pipelined by 1, beside 7 idle ones", "RSS B/idle")
    expect(File.readlines("#{@directory}/open").map(&:to_i).max).to be >= 7
  end

  it "does not measure a server that keeps no idle connection" do
    _, err, status = bench(server("a", "hi"), "--rounds=1", "--warmup=0", "--idle=3")
    expect(err).to match(/\Akino-bench: a closed 3 of 3 idle connections\n\z/)
    expect(status.exitstatus).to eq 1
  end

  {
    "another body" => [%w[ho], 'b answers 2 bytes "ho" where a answers 2 bytes "hi"'],
    "no content-type" => [%w[hi x-type], "b sends no content-type"]
  }.each do |what, (arguments, complaint)|
    it "does not compare servers when one sends #{what}" do
      _, err, status = bench(server("a", "hi"), server("b", *arguments))
      expect(err).to eq "kino-bench: #{complaint}\n"
      expect(status.exitstatus).to eq 1
      expect(File).not_to exist("#{@directory}/notes")
    end
  end
end
